"""Elementwise operators: each element of the output comes from the elements at its place."""

from __future__ import annotations

from smartc.ir.operators.operator import Operator, Vector, VectorMath, alike


def _relu(x: Vector, vector: VectorMath) -> Vector:
    """Return the larger of the vector and zero."""
    return vector.maximum(x, vector.number(0.0))


def _relu6(x: Vector, vector: VectorMath) -> Vector:
    """Return the vector, limited to 0 to 6."""
    return vector.minimum(_relu(x, vector), vector.number(6.0))


def _silu(x: Vector, vector: VectorMath) -> Vector:
    """Return the vector times its logistic function."""
    return x * vector.sigmoid(x)


def _hardswish(x: Vector, vector: VectorMath) -> Vector:
    """Return the vector times its hard sigmoid."""
    return x * vector.hard_sigmoid(x)


# A line here is all that a new activation function needs.
ACTIVATIONS = (
    Operator("relu", "activation", "unary", zero_at_zero=True, fused="relu", formula=_relu),
    Operator("relu6", "activation", "unary", zero_at_zero=True, fused="relu", formula=_relu6),
    Operator("leaky_relu", "activation", "unary", zero_at_zero=True, fused="relu"),
    Operator("hardtanh", "activation", "bounding", fused="relu"),
    Operator("clamp", "activation", "bounding", fused="relu"),
    Operator("clamp_min", "activation", "bounding_below", fused="relu", by_name_only=True),
    Operator("clamp_max", "activation", "bounding_above", by_name_only=True),
    Operator("clip", "activation", "bounding", by_name_only=True),
    Operator("prelu", "activation", "prelu", fused="relu"),
    Operator("_prelu_kernel", "activation", "prelu", fused="relu", by_name_only=True),
    *alike("gelu elu mish", "activation", "unary", zero_at_zero=True, fused="silu"),
    *alike("selu celu", "activation", "unary", zero_at_zero=True, fused="silu", by_name_only=True),
    Operator("softplus", "activation", "unary", fused="silu"),
    Operator("silu", "activation", "unary", zero_at_zero=True, fused="silu", formula=_silu),
    Operator("sigmoid", "activation", "unary", fused="silu", formula=lambda x, vector: vector.sigmoid(x)),
    Operator("tanh", "activation", "unary", zero_at_zero=True, fused="silu", formula=lambda x, vector: vector.tanh(x)),
    Operator("hardsigmoid", "activation", "unary", fused="silu", formula=lambda x, vector: vector.hard_sigmoid(x)),
    Operator("hardswish", "activation", "unary", zero_at_zero=True, fused="silu", formula=_hardswish),
    Operator("glu", "activation", "gating"),
)

ARITHMETIC = (
    *alike("add sub rsub", "arithmetic", "joined"),
    Operator("subtract", "arithmetic", "joined", by_name_only=True),
    Operator("mul", "arithmetic", "multiplication"),
    Operator("multiply", "arithmetic", "multiplication", by_name_only=True),
    Operator("div", "arithmetic", "division"),
    *alike("divide true_divide", "arithmetic", "division", by_name_only=True),
    Operator("neg", "arithmetic", "unary", zero_at_zero=True),
)

FUNCTIONS = (
    *alike(
        "hardshrink softshrink abs expm1 log1p sqrt square sin tan atan erf sign floor ceil round trunc nan_to_num "
        "_conj positive",
        "function",
        "unary",
        zero_at_zero=True,
    ),
    *alike(
        "log_sigmoid threshold exp log log2 log10 rsqrt cos reciprocal bernoulli fill rand_like randn_like",
        "function",
        "unary",
    ),
    Operator("rrelu", "function", "unary", in_training="random"),
    *alike(
        "pow maximum minimum where remainder fmod floor_divide atan2 masked_fill addcmul addcdiv lerp copysign hypot "
        "heaviside mse_loss",
        "function",
        "joined",
    ),
    *alike("eq ne gt lt ge le", "comparison", "joined"),
    *alike("logical_and logical_or logical_xor bitwise_and bitwise_or", "comparison", "joined"),
    *alike("isnan isinf logical_not bitwise_not", "comparison", "unary"),
)

COPIES = (
    *alike(
        "dropout feature_dropout",
        "dropout",
        "unary",
        cost="free",
        zero_at_zero=True,
        identity=True,
        in_training="random",
    ),
    *alike("alpha_dropout feature_alpha_dropout", "dropout", "unary", cost="free", identity=True, in_training="random"),
    *alike(
        "contiguous alias detach lift_fresh_copy lift_fresh",
        "copy",
        "unary",
        cost="free",
        zero_at_zero=True,
        identity=True,
    ),
    Operator("clone", "copy", "unary", zero_at_zero=True, identity=True),
    Operator("detach_copy", "copy", "unary", zero_at_zero=True, by_name_only=True),
    *alike("to _to_copy type_as", "cast", "unary", zero_at_zero=True),
)
