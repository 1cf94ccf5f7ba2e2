"""TrainingMode: flags there and back, with statistics that the original does not share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from smartc.frontend.capture import trace
from smartc.ir.traced_model import Remark, TracedModel
from smartc.passes.shared.base import run_passes
from smartc.passes.training_mode import Mode, TrainingMode
from tests.support.raw_model import run_pure
from tests.support.zoo import CASES

ZOO = ("dropouts", "instance_norm_statistics", "standardised_by_batch_norm", "tied_norms", "vision_transformer", "gru")


def every_kind() -> nn.Module:
    """Return a network with each operator that has a training flag."""
    norms = (nn.BatchNorm1d(6), nn.InstanceNorm1d(6, track_running_stats=True))
    drops = (nn.Dropout(0.3), nn.AlphaDropout(0.2), nn.Dropout1d(0.1), nn.FeatureAlphaDropout(0.1), nn.RReLU())
    without = (nn.InstanceNorm1d(6), nn.BatchNorm1d(6, track_running_stats=False))
    return nn.Sequential(nn.Conv1d(4, 6, 1), *norms, *drops, *without)


def traced() -> TracedModel:
    """Return the network of every kind, captured."""
    return trace(every_kind(), torch.randn(2, 4, 5))


def test_switches_every_flag_and_says_so() -> None:
    result = run_pure(TrainingMode(), traced())
    assert [remark for remark in result.remarks if remark.changed] == [
        Remark("1", "batch_norm set to training", True),
        Remark("2", "instance_norm set to training", True),
        Remark("3", "dropout set to training", True),
        Remark("4", "alpha_dropout set to training", True),
        Remark("5", "feature_dropout set to training", True),
        Remark("6", "feature_alpha_dropout set to training", True),
        Remark("7", "rrelu set to training", True),
    ]
    assert [remark.text for remark in result.remarks if not remark.changed] == [
        "instance_norm without running statistics stays as it is",
        "batch_norm without running statistics stays as it is",
    ]


@pytest.mark.parametrize(("batch_norm", "dropout", "count"), [(True, False, 2), (False, True, 5), (False, False, 0)])
def test_switches_only_what_it_is_told_to(batch_norm: bool, dropout: bool, count: int) -> None:
    result = run_pure(TrainingMode(batch_norm, dropout), traced())
    assert sum(remark.changed for remark in result.remarks) == count


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_there_and_back_is_the_same_code(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    both = run_passes(model, (TrainingMode(), TrainingMode(False, False)))
    assert both.model.graph_module.code == model.graph_module.code


def test_there_and_back_is_the_same_code_with_every_flag() -> None:
    model = traced()
    training = TrainingMode().run(model).model
    back = TrainingMode(False, False).run(training).model
    assert training.graph_module.code != model.graph_module.code
    assert back.graph_module.code == model.graph_module.code


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_a_mode_that_is_followed_and_back_is_the_same_code(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    both = run_passes(model, (TrainingMode(follow=True), TrainingMode(False, False)))
    assert both.model.graph_module.code == model.graph_module.code
    assert not [part for part in both.model.graph_module.modules() if isinstance(part, Mode)]


def test_a_mode_that_is_followed_switches_statistics_and_dropout() -> None:
    model = trace(nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)), torch.randn(2, 3))
    followed = TrainingMode(follow=True).run(model).model
    module, always = followed.graph_module, TrainingMode().run(model).model.graph_module
    batch = torch.randn(64, 3) + 1
    for _ in range(2):
        module.eval()
        before = followed.tensor("0.running_mean").clone()
        assert torch.equal(
            module(batch),
            torch.nn.functional.batch_norm(
                batch,
                before,
                module.get_buffer("0.running_var"),
                *(model.tensor(f"0.{name}") for name in ("weight", "bias")),
            ),
        )
        assert torch.equal(followed.tensor("0.running_mean"), before)
        module.train()
        torch.manual_seed(1)
        out = module(batch)
        torch.manual_seed(1)
        assert torch.equal(out, always(batch))
        assert not torch.equal(followed.tensor("0.running_mean"), before)


def test_statistics_follow_the_batches_and_leave_the_original_alone() -> None:
    norm = nn.BatchNorm1d(3, momentum=0.5)
    model = trace(nn.Sequential(norm), torch.randn(2, 3))
    training = TrainingMode().run(model).model
    batch = torch.randn(8, 3) * 2 + 1
    outputs = training.graph_module(batch)
    assert torch.equal(model.tensor("0.running_mean"), torch.zeros(3))
    assert torch.allclose(training.tensor("0.running_mean"), 0.5 * batch.mean(0))
    assert torch.allclose(outputs, norm.train()(batch))


def test_says_that_momentum_zero_keeps_the_statistics() -> None:
    model = trace(nn.Sequential(nn.BatchNorm1d(3, momentum=None)), torch.randn(2, 3))
    (remark,) = TrainingMode().run(model).remarks
    assert remark.text == "batch_norm set to training; its running statistics stay, because its momentum is 0"


@pytest.mark.parametrize("layer", [nn.LSTM(4, 5, 2, dropout=0.5), nn.GRU(4, 5, 2, dropout=0.5)], ids=["lstm", "gru"])
def test_recurrent_layers_drop_in_training(layer: nn.Module) -> None:
    model = trace(layer, torch.randn(2, 3, 4))
    training = TrainingMode().run(model).model
    x = torch.randn(2, 3, 4)
    assert not torch.equal(training.graph_module(x)[0], training.graph_module(x)[0])
    assert torch.equal(model.graph_module(x)[0], model.graph_module(x)[0])
