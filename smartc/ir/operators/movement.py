"""Operators that move elements, make tensors, or check them: they compute nothing of channels."""

from __future__ import annotations

from smartc.ir.operators.operator import Operator, alike

VIEWS = (
    *alike("view reshape flatten unflatten _unsafe_view", "view", "reshape", cost="free"),
    *alike("squeeze unsqueeze", "view", "squeeze", cost="free"),
    *alike("reshape_as view_as", "view", "view_as", cost="free"),
    Operator("expand", "view", "expand", cost="free"),
    Operator("expand_as", "view", "expand_as", cost="free"),
)

REORDERINGS = (
    Operator("permute", "reordering", "permute"),
    Operator("transpose", "reordering", "transpose"),
    Operator("swapaxes", "reordering", "transpose", by_name_only=True),
    Operator("t", "reordering", "matrix_transpose", cost="free"),
    Operator("numpy_T", "reordering", "matrix_transpose", by_name_only=True),
    Operator("movedim", "reordering", "movedim", by_name_only=True),
    Operator("flip", "reordering", "flip"),
    Operator("roll", "reordering", "roll"),
    Operator("pixel_shuffle", "shuffling", "pixel_shuffle"),
    Operator("pixel_unshuffle", "shuffling", "pixel_unshuffle"),
    # Of no rule: a pass of its own turns it into a gather.
    Operator("channel_shuffle", "shuffling"),
    *alike("repeat tile", "repetition", "repeat"),
    Operator("repeat_interleave", "repetition", "repeat_interleave"),
    Operator("index_select", "gathering", "index_select"),
    Operator("index", "gathering", "index"),
    Operator("gather", "gathering", "gather", by_name_only=True),
    Operator("slice_scatter", "splitting", "slice_scatter", by_name_only=True),
    Operator("select_scatter", "splitting", "select_scatter", by_name_only=True),
)

JOINING_AND_SPLITTING = (
    *alike("cat concat concatenate", "joining", "cat"),
    Operator("stack", "joining", "stack"),
    *alike("split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk", "splitting", "split", cost="free"),
    Operator("unbind", "splitting", "unbind", cost="free"),
    *alike("slice narrow", "splitting", "slice"),
    Operator("select", "splitting", "select", cost="free"),
    Operator("getitem", "splitting", "getitem", cost="free"),
)

CREATIONS = (
    *alike("zeros ones full empty", "creation", "fill", cost="free"),
    *alike("rand randn", "creation", "fill"),
    *alike("new_zeros new_ones new_full new_empty", "creation", "new_fill", cost="free"),
    *alike("zeros_like zero", "creation", "unary", cost="free", zero_at_zero=True),
    *alike("ones_like full_like empty_like", "creation", "unary", cost="free"),
    *alike("arange sym_size scalar_tensor", "creation", "number", cost="free"),
    *alike("sym_numel numel size", "creation", "number"),
)

ASSERTIONS = alike(
    "_assert_tensor_metadata _assert_scalar _assert_async sym_constrain_range sym_constrain_range_for_size",
    "assertion",
)
