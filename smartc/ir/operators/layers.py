"""Operators that multiply, normalise, pool or resize: what the layers of a network are made of."""

from __future__ import annotations

from smartc.ir.operators.operator import Operator, Weight, alike

_WEIGHT = Weight(bias=2)
_TRANSPOSED = Weight(input_axis=0, output_axis=1, bias=2)
_MATRIX = Weight(name="mat2", input_axis=0, output_axis=1)
# What addmm adds need not be one number for each output channel, and stands first.
_ADDED = Weight(place=2, name="mat2", input_axis=0, output_axis=1, source=1)

WEIGHTED = (
    *alike("conv1d conv2d conv3d", "convolution", "convolution", cost="matrix", weight=_WEIGHT, onnx=("Conv",)),
    *alike(
        "conv_transpose1d conv_transpose2d conv_transpose3d",
        "transposed_convolution",
        "transposed_convolution",
        cost="matrix",
        weight=_TRANSPOSED,
        onnx=("ConvTranspose",),
    ),
    Operator("linear", "linear", "linear", cost="matrix", weight=_WEIGHT, onnx=("Gemm", "MatMul")),
    Operator("embedding", "embedding", "embedding"),
    # They may have no random numbers to draw, yet on some devices they have no gradient in evaluation.
    *alike("lstm gru rnn_tanh rnn_relu", "recurrent", "recurrence", cost="matrix", in_training="random"),
    *alike("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell", "recurrent", "recurrent_step", cost="matrix"),
)

PRODUCTS = (
    Operator("matmul", "product", "product", cost="matrix", weight=_MATRIX, onnx=("MatMul",)),
    Operator("mm", "product", "product", cost="matrix", weight=_MATRIX, onnx=("MatMul",)),
    Operator("bmm", "product", "product", cost="matrix", onnx=("MatMul",)),
    Operator("addmm", "product", "added_product", cost="matrix", weight=_ADDED, onnx=("Gemm",)),
    Operator("baddbmm", "product", "added_product", cost="matrix"),
    Operator("einsum", "product", "einsum", cost="matrix"),
    *alike("mv addmv dot", "product", cost="matrix"),
    Operator("scaled_dot_product_attention", "attention", "attention", cost="matrix", onnx=("MatMul", "Softmax")),
)

NORMALIZATIONS = (
    Operator("batch_norm", "batch_norm", "batch_norm", in_training="statistics"),
    Operator("instance_norm", "normalization", "instance_norm", in_training="statistics"),
    Operator("group_norm", "normalization", "group_norm"),
    Operator("layer_norm", "normalization", "layer_norm", onnx=("LayerNormalization",)),
    Operator("rms_norm", "normalization", "layer_norm"),
    Operator("_weight_norm", "normalization", "weight_norm"),
    Operator("softmax", "softmax", "along", onnx=("Softmax",)),
    *alike("log_softmax _softmax _log_softmax", "softmax", "along", by_name_only=True),
)

REDUCTIONS = (
    Operator("mean", "reduction", "average", onnx=("ReduceMean", "GlobalAveragePool")),
    Operator("sum", "reduction", "average"),
    Operator("amax", "reduction", "reduction"),
    Operator("max", "reduction", "extremum"),
    Operator("min", "reduction", "extremum", by_name_only=True),
    *alike("amin prod any all argmax argmin logsumexp nansum nanmean", "reduction", "reduction", by_name_only=True),
    *alike("var std", "reduction", "spread", by_name_only=True),
    *alike("var_mean std_mean", "reduction", "moments", by_name_only=True),
    *alike("linalg_vector_norm norm", "reduction", "vector_norm", by_name_only=True),
    *alike("cumsum cumprod", "scan", "along"),
    *alike("topk sort", "sorting", "ordering"),
)

# A channel rule of space works on as many of the last axes as its name says.
SPATIAL = (
    Operator("max_pool1d", "max_pooling", "spatial1d", onnx=("MaxPool",)),
    Operator("max_pool2d", "max_pooling", "spatial2d", onnx=("MaxPool",)),
    Operator("max_pool3d", "max_pooling", "spatial3d", onnx=("MaxPool",)),
    Operator("adaptive_max_pool2d", "max_pooling", "spatial2d"),
    Operator("adaptive_max_pool1d", "max_pooling", "spatial1d", by_name_only=True),
    Operator("adaptive_max_pool3d", "max_pooling", "spatial3d", by_name_only=True),
    Operator("max_pool2d_with_indices", "max_pooling", "spatial2d", by_name_only=True),
    *alike("avg_pool1d adaptive_avg_pool1d", "average_pooling", "spatial1d"),
    Operator("avg_pool2d", "average_pooling", "spatial2d", onnx=("AveragePool",)),
    Operator(
        "adaptive_avg_pool2d", "average_pooling", "spatial2d", onnx=("ReduceMean", "GlobalAveragePool", "AveragePool")
    ),
    *alike("avg_pool3d adaptive_avg_pool3d", "average_pooling", "spatial3d"),
    *alike("upsample_nearest2d upsample_bilinear2d", "resizing", "spatial2d"),
    *alike("upsample_nearest1d upsample_linear1d", "resizing", "spatial1d", by_name_only=True),
    *alike(
        "_upsample_nearest_exact2d upsample_bicubic2d _upsample_bilinear2d_aa",
        "resizing",
        "spatial2d",
        by_name_only=True,
    ),
    *alike("upsample_nearest3d upsample_trilinear3d", "resizing", "spatial3d", by_name_only=True),
    *alike("grid_sampler grid_sampler_2d grid_sampler_3d", "sampling", "grid_sample"),
    Operator("im2col", "windows", "im2col", by_name_only=True),
    Operator("col2im", "windows", "col2im", by_name_only=True),
    Operator("unfold", "windows", "unfold", cost="free", by_name_only=True),
    Operator("pad", "padding", "pad"),
    *alike(
        "constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d",
        "padding",
        "pad",
        by_name_only=True,
    ),
)
