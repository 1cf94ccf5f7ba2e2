"""What a compiled network has to equal: the original in which all readers of removed channels are zero."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

# Float64 carries 1e-16; sums of many thousand terms in another order lose four digits of it.
TOLERANCE = 1e-10
# Two float32 runs of the same weights: where tensors lie in memory and which processor this is decides
# which kernels run and in which order they sum; float32 carries 6e-8, a few layers lose two digits of it.
FLOAT32_TOLERANCE = 1e-5


def masked_state(state: Mapping[str, Tensor], plan: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a state_dict in which every ``reads`` axis is zero where the plan keeps nothing.

    Names of one storage get the zeros of all its names: whichever is loaded last is right.

    Raises:
        ValueError: The plan names a tensor, axis, role, size or index that the state does not have.
    """
    masked = type(state)((name, tensor.clone()) for name, tensor in state.items())
    if hasattr(state, "_metadata"):  # some modules refuse a state without their version
        masked._metadata = state._metadata
    for name, entry in plan["tensors"].items():
        for axis in entry["axes"]:
            for alias in _aliases(state, name, axis["role"]):
                _check(name, state[alias], entry, axis)
                if axis["role"] == "reads":
                    masked[alias].index_fill_(axis["axis"], _gone(masked[alias], axis), 0)
    return masked


def without_blocks(state: Mapping[str, Tensor], plan: Mapping[str, Any], compiled: nn.Module) -> dict[str, Tensor]:
    """Return a state_dict in which every weight that lost blocks is zero where the compiled one is.

    Raises:
        ValueError: A weight of the compiled module is neither zero nor that of the state.
    """
    pruned, small = dict(state), compiled.state_dict()
    for name in plan.get("masks", ()):
        kept = [torch.arange(size) for size in state[name].shape]
        for axis in plan["tensors"].get(name, {"axes": ()})["axes"]:
            kept[axis["axis"]] = torch.as_tensor(axis["kept"])
        places = torch.meshgrid(*kept, indexing="ij")
        lives = small[name] != 0
        if not torch.equal(state[name][places].to(small[name].dtype) * lives, small[name]):
            raise ValueError(f"{name} has other weights than the original")
        stays = torch.zeros_like(state[name]).index_put(places, lives.to(state[name].dtype))
        for alias in _aliases(state, name, "reads"):
            pruned[alias] = pruned[alias] * stays
    return pruned


def relative_error(expected: Any, actual: Any) -> float:
    """Return the largest over the outputs of max|a - b| / max|a|, in float64; infinite if any is not finite.

    Raises:
        ValueError: The structures, shapes or plain values of the two differ.
    """
    left, left_tree = tree_flatten(expected)
    right, right_tree = tree_flatten(actual)
    if left_tree != right_tree:
        raise ValueError(f"the outputs differ in structure: {left_tree} and {right_tree}")
    return max((_leaf_error(a, b) for a, b in zip(left, right, strict=True)), default=0.0)


def errors_by_batch(module: nn.Module, inputs: tuple[Any, ...], compiled: Any) -> dict[int, float]:
    """Return the relative error between the masked original and what was compiled, by batch size.

    Both run in float64 on the same numbers: the example inputs, then batches of 1 and of 3.
    """
    plan = compiled.plan.to_dict()
    masked = masked_original(module, plan)
    masked.load_state_dict(without_blocks(masked.state_dict(), plan, compiled.module))
    removed = copy.deepcopy(compiled.module).double()
    errors = {}
    for batch in (batch_size(inputs), 1, 3):
        numbers = with_batch(inputs, batch)
        with torch.no_grad():
            errors[batch] = relative_error(masked(*copy.deepcopy(numbers)), removed(*copy.deepcopy(numbers)))
    return errors


def assert_equals_masked(module: nn.Module, inputs: tuple[Any, ...], compiled: Any) -> None:
    """Fail unless the compiled module equals the masked original at three batch sizes."""
    for batch, error in errors_by_batch(module, inputs, compiled).items():
        assert error <= TOLERANCE, f"batch {batch}: relative error {error:.2e} exceeds {TOLERANCE:.0e}"


def masked_original(module: nn.Module, plan: Mapping[str, Any]) -> nn.Module:
    """Return a float64 copy of the user's own module, in evaluation mode, with the readers masked."""
    masked = _copied(module).double().eval()
    masked.load_state_dict(masked_state(masked.state_dict(), plan))
    return masked


def batch_size(inputs: tuple[Any, ...]) -> int:
    """Return the size of axis 0 of the first tensor."""
    return next(int(leaf.shape[0]) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))


def with_batch(inputs: tuple[Any, ...], batch: int) -> tuple[Any, ...]:
    """Return float64 inputs of another batch size: the rows again, floating ones with fresh noise."""
    same = batch == batch_size(inputs)
    generator = torch.Generator().manual_seed(batch)

    def resize(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        rows = leaf[torch.arange(batch) % leaf.shape[0]]
        if not leaf.is_floating_point():
            return rows
        noise = torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        return rows.double() if same else rows.double() + 0.5 * noise

    resized: tuple[Any, ...] = tree_map(resize, inputs)
    return resized


def removed_share(compiled: Any) -> float:
    """Return the share of the prunable channels that are gone, by the report's own count; 0 if none are."""
    report = compiled.report if isinstance(compiled.report, Mapping) else compiled.report.to_dict()
    summary = report["summary"]
    return float(summary["removed_channels"]) / max(1, summary["prunable_channels"])


def _copied(module: nn.Module) -> nn.Module:
    """Return a deep copy; the weight that an old-style ``weight_norm`` leaves behind would forbid one."""
    for child in module.modules():
        for name, value in list(vars(child).items()):
            if isinstance(value, Tensor) and not value.is_leaf:
                setattr(child, name, value.detach())
    return copy.deepcopy(module)


def _aliases(state: Mapping[str, Tensor], name: str, role: str) -> list[str]:
    """Return every name whose tensor is the same memory seen in the same shape.

    A buffer that is not persistent may shrink too; the state_dict lacks it, and it reads nothing.
    """
    if name in state:
        return [other for other, tensor in state.items() if _identity(tensor) == _identity(state[name])]
    if role != "reads":
        return []
    raise ValueError(f"the plan masks {name}, which the state_dict does not have")


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """Return what two names of one tensor share."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _check(name: str, tensor: Tensor, entry: Mapping[str, Any], axis: Mapping[str, Any]) -> None:
    """Refuse an entry that does not fit its tensor."""
    kept, size = axis["kept"], tensor.shape[axis["axis"]]
    if axis["role"] not in ("owns", "reads", "follows"):
        raise ValueError(f"{name}: role {axis['role']!r} is none of owns, reads, follows")
    if len(set(kept)) < len(kept) or any(not 0 <= index < size for index in kept):
        raise ValueError(f"{name}: kept indices of axis {axis['axis']} are not different numbers below {size}")
    if len(entry["shape"]) != tensor.ndim:
        raise ValueError(f"{name}: shape {entry['shape']} has not the {tensor.ndim} axes of the tensor")


def _gone(tensor: Tensor, axis: Mapping[str, Any]) -> Tensor:
    """Return the indices of one axis that are not kept."""
    gone = torch.ones(tensor.shape[axis["axis"]], dtype=torch.bool)
    gone[torch.as_tensor(axis["kept"], dtype=torch.long)] = False
    return gone.nonzero().flatten().to(tensor.device)


def _leaf_error(expected: Any, actual: Any) -> float:
    """Return max|a - b| / max|a| of two tensors; plain values have to be equal."""
    if not isinstance(expected, Tensor) or not isinstance(actual, Tensor):
        if expected != actual:
            raise ValueError(f"the outputs hold {expected!r} and {actual!r}")
        return 0.0
    if expected.shape != actual.shape:
        raise ValueError(f"the outputs have shapes {tuple(expected.shape)} and {tuple(actual.shape)}")
    if expected.numel() == 0:
        return 0.0
    left, right = expected.detach().double(), actual.detach().double()
    if not (left.isfinite().all() and right.isfinite().all()):
        return float("inf")
    difference, scale = float((left - right).abs().max()), float(left.abs().max())
    if difference == 0:
        return 0.0
    return difference / scale if scale else float("inf")
