"""What removal leaves computes what the original does in which all readers of removed channels are zero."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx

from smartc.analysis.channel_rules.registry import RULES
from smartc.analysis.channels.labels import Labels, Site
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.core.errors import InternalError
from smartc.frontend.capture import trace
from smartc.ir.traced_model import BATCH_PRIME, TracedModel, Value, operator_name, value_of
from smartc.passes.remove_channels import RemoveChannels
from smartc.passes.shared import rewrite_sizes
from smartc.proof.reference import mask_readers, seeded_inputs
from tests.support.awkward_networks import ODD_AXES, READABLE, UNBATCHED, UNREADABLE
from tests.support.cut_model import Cut, cut, cut_module, random_keep
from tests.support.oracle import TOLERANCE, assert_equals_masked, masked_original, relative_error
from tests.support.random_networks import Recipe, random_recipe, recipes
from tests.support.rule_networks import RULE_NETWORKS
from tests.support.zoo import CASES

RULED = {f"{family}: {name}": case for family, cases in RULE_NETWORKS.items() for name, case in cases.items()}
AWKWARD = {**READABLE, **UNREADABLE, **ODD_AXES}
# One or two of each family that random networks do not reach; the rest of the zoo is compiled elsewhere.
CHOSEN = (
    "vision_transformer multihead_attention cross_attention_queries mlp_mixer patch_merging shifted_windows "
    "conv1d_audio conv3d_video dcgan_generator activations_zero_at_zero elementwise_functions pad_on_channel_axis "
    "spatial_transformer inplace_on_slice inplace_through_view dictionary_output dictionary_input alias_and_fill "
    "passed_through_output cbam coordinate_attention split_attention masked_fill_threshold depthwise_multiplier "
    "grouped_of_concat grouped_transposed depthwise_transposed shufflenet_unit_view focus_space_slices "
    "residual_bottlenecks dense_concat unet_interpolate stack_and_sum concat_over_batch instance_norm_statistics "
    "batch_norm_of_input weight_norm_hook modulated_convolution tied_autoencoder tied_embedding tied_norms "
    "weight_made_of_parameters lstm gru_cell_unrolled view_literal_sizes gram_matrix argmax_over_channels "
    "maxout_by_view channels_into_space expand_pooled concat_after_unsqueeze c2f_slice res2net index_buffer "
    "unbind_after_unflatten repeat_interleave_channels"
).split()
Plant = Callable[[pytest.MonkeyPatch], None]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(recipes(most_steps=5), st.integers(0, 2**16))
def test_removed_equals_masked_for_any_network_and_any_mask(recipe: Recipe, seed: int) -> None:
    network, inputs = recipe.build()
    model = trace(network, inputs)
    groups = find_channel_groups(model)
    for trial in range(3):
        assert_equals_masked(network, inputs, Cut(model, groups, random_keep(groups, seed + trial)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_removed_equals_masked_in_the_zoo(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    groups = find_channel_groups(model)
    for seed in range(2):
        assert_equals_masked(module, inputs, Cut(model, groups, random_keep(groups, seed)))


@pytest.mark.parametrize("name", RULED)
def test_removed_equals_masked_for_every_rule(name: str) -> None:
    module, inputs = RULED[name].build()
    for seed in range(2):
        assert_equals_masked(module, (inputs,), cut_module(module, inputs, seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
def test_removed_equals_masked_where_no_rule_fits_well(name: str) -> None:
    module, inputs = AWKWARD[name].build()
    for seed in range(2):
        assert_equals_masked(module, (inputs,), cut_module(module, inputs, seed))


@pytest.mark.parametrize("name", UNBATCHED)
def test_removed_equals_masked_without_a_batch(name: str) -> None:
    module, inputs = UNBATCHED[name].build()
    done = cut_module(module, inputs)
    assert done.groups.count
    assert relative_error(masked_original(module, done.to_dict())(inputs), done.module(inputs)) < TOLERANCE


@pytest.mark.parametrize("name", [*READABLE, *UNREADABLE])
def test_computed_weight_reads_only_where_zeros_silence_it(name: str) -> None:
    module, inputs = AWKWARD[name].build()
    groups = find_channel_groups(trace(module, inputs))
    assert (("stem.weight", 0) not in groups.frozen) == (name in READABLE)


def sample() -> Cut:
    """Return a cut of a random network of many kinds of steps."""
    network, inputs = Recipe(("split_unequal", "shuffle", "dense", "grouped", "scale_and_shift"), "maps", 3).build()
    return cut_module(network, inputs)


def test_leaves_its_input_alone() -> None:
    done = sample()
    model = done.original
    before = {name: (tensor, tensor.clone()) for name, tensor in model.graph_module.state_dict(keep_vars=True).items()}
    graph, values = str(model.graph), [value_of(node) for node in model.graph.nodes]
    done.smaller()
    assert str(model.graph) == graph
    assert [value_of(node) for node in model.graph.nodes] == values
    after = model.graph_module.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    assert all(after[name] is tensor and torch.equal(tensor, copy) for name, (tensor, copy) in before.items())


def test_says_which_parameters_shrank() -> None:
    done = sample()
    result = RemoveChannels(done.groups, done.keep).run(done.original)
    shrunk = {name for name, entry in done.to_dict()["tensors"].items() if entry["axes"]}
    assert {remark.where for remark in result.remarks} == shrunk
    assert all(re.fullmatch(r"\([\d, ]+\) is now \([\d, ]+\)", remark.text) for remark in result.remarks)
    assert result.modified


def test_keeping_all_changes_nothing() -> None:
    done = sample()
    result = RemoveChannels(done.groups, np.ones(done.groups.count, dtype=bool)).run(done.original)
    assert not result.modified
    assert result.model.graph_module.code == done.original.graph_module.code


def test_removing_a_whole_axis_is_refused() -> None:
    done = sample()
    with pytest.raises(InternalError) as caught:
        RemoveChannels(done.groups, np.zeros(done.groups.count, dtype=bool)).run(done.original)
    assert re.fullmatch(
        r"[\w.]+, axis \d: all \d+ indices would be removed\. This is a fault of smartc: please report it\.",
        str(caught.value),
    )


class ShapeCheck(fx.Interpreter):
    """Compares what is noted on each node with what comes out of it."""

    batch = 3

    def run_node(self, node: fx.Node) -> Any:
        """Run a node, and fail where its value is not the one noted."""
        result, value = super().run_node(node), value_of(node)
        several = isinstance(result, (tuple, list))
        for one, noted in zip(result, value, strict=True) if several and value is not None else [(result, value)]:
            if isinstance(one, Tensor) and isinstance(noted, Value):
                sizes = [
                    size * self.batch // BATCH_PRIME if axis in noted.computed else size
                    for axis, size in enumerate(noted.shape)
                ]
                assert (list(one.shape), one.dtype) == (sizes, noted.dtype), node
        return result


def check_shapes(model: TracedModel) -> None:
    """Fail where a noted value is not that of a run."""
    flat = seeded_inputs(model, ShapeCheck.batch)
    with torch.no_grad():
        ShapeCheck(model.graph_module).run(*flat, enable_io_processing=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_noted_values_are_those_of_a_run_of_random_networks(seed: int) -> None:
    network, inputs = random_recipe(seed).build()
    check_shapes(cut_module(network, inputs, seed).smaller())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c2f_chunk", "shifted_windows", "coordinate_attention", "res2net"])
def test_noted_values_are_those_of_a_run_of_the_zoo(name: str) -> None:
    module, inputs = CASES[name].build()
    check_shapes(cut_module(module, inputs).smaller())


def test_both_ways_of_masking_agree() -> None:
    module, inputs = CASES["tied_autoencoder"].build()
    done = cut_module(module, inputs)
    masked = mask_readers(done.original, done.groups, done.keep)
    with torch.no_grad():
        expected = masked_original(module, done.to_dict())(*inputs)
    assert relative_error(expected, masked.run(inputs)) < TOLERANCE


def without_a_tie(patch: pytest.MonkeyPatch) -> None:
    """Let an addition take the labels of its first operand."""
    patch.setitem(RULES, "joined", lambda site, x, *others, **options: x)


def joined_backwards(patch: pytest.MonkeyPatch) -> None:
    """Join labels in the wrong order."""
    right = RULES["cat"]
    patch.setitem(RULES, "cat", lambda site, tensors, dim=0: right(site, tensors[::-1], dim))


def norm_that_does_not_follow(patch: pytest.MonkeyPatch) -> None:
    """Leave the parameters of a batch norm whole."""
    patch.setitem(RULES, "batch_norm", lambda site, x, *tensors, **options: Labels(site.shape, x.factors))


def shuffle_that_does_nothing(patch: pytest.MonkeyPatch) -> None:
    """Take a gather for the identity."""
    patch.setitem(RULES, "index_select", lambda site, x, dim, index: Labels(site.shape, x.factors))


def softmax_taken_for_elementwise(patch: pytest.MonkeyPatch) -> None:
    """Let channels through an operator that mixes them."""
    patch.setitem(RULES, "along", lambda site, x, *options: x)


def flatten_in_another_order(patch: pytest.MonkeyPatch) -> None:
    """Tile labels where each should be repeated."""

    reshape = RULES["reshape"]

    def flatten(site: Site, x: Labels, *sizes: Any) -> Labels:
        right = reshape(site, x, *sizes)
        last = right.along(-1) if operator_name(site.node.target) == "flatten" else None
        return right if last is None else right.mapped(lambda labels: np.sort(labels)[::-1].copy())

    patch.setitem(RULES, "reshape", flatten)


def sizes_that_stay(patch: pytest.MonkeyPatch) -> None:
    """Leave the literal sizes of a split."""
    patch.setitem(rewrite_sizes._REWRITES, "split", lambda *arguments: None)


def groups_that_stay(patch: pytest.MonkeyPatch) -> None:
    """Leave the number of groups of a depthwise convolution."""
    patch.setitem(rewrite_sizes._REWRITES, "convolution", lambda *arguments: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (without_a_tie, "residual_identity"),
        (joined_backwards, "dense_concat"),
        (norm_that_does_not_follow, "plain_chain"),
        (shuffle_that_does_nothing, "shufflenet_unit_module"),
        (softmax_taken_for_elementwise, "softmax_over_channels"),
        (flatten_in_another_order, "flatten_into_linear"),
        (sizes_that_stay, "chunk_unequal"),
        (groups_that_stay, "depthwise_separable"),
    ],
)
def test_planted_fault_is_caught(plant: Plant, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    assert_equals_masked(module, inputs, cut(model, 1))
    plant(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, ValueError, IndexError, InternalError)):
        assert_equals_masked(module, inputs, cut(model, 1))
