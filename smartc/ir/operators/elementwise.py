"""Elementwise operators: each element of the output comes from the elements at its place."""

from __future__ import annotations

from smartc.ir.operators.operator import Operator, alike

# A line here is all that a new activation function needs.
ACTIVATIONS = (
    *alike("relu relu6 leaky_relu", "activation", "unary", zero_at_zero=True, fused="relu"),
    Operator("hardtanh", "activation", "unary", fused="relu"),
    Operator("clamp", "activation", "joined", fused="relu"),
    Operator("clamp_min", "activation", "joined", fused="relu", by_name_only=True),
    *alike("clamp_max clip", "activation", "joined", by_name_only=True),
    Operator("prelu", "activation", "prelu", fused="relu"),
    Operator("_prelu_kernel", "activation", "prelu", fused="relu", by_name_only=True),
    *alike("gelu elu mish", "activation", "unary", zero_at_zero=True, fused="silu"),
    *alike("selu celu", "activation", "unary", zero_at_zero=True, fused="silu", by_name_only=True),
    Operator("softplus", "activation", "unary", fused="silu"),
    Operator(
        "silu", "activation", "unary", zero_at_zero=True, fused="silu", formula=lambda x, vector: x * vector.sigmoid(x)
    ),
    Operator("sigmoid", "activation", "unary", fused="silu", formula=lambda x, vector: vector.sigmoid(x)),
    Operator("tanh", "activation", "unary", zero_at_zero=True, fused="silu", formula=lambda x, vector: vector.tanh(x)),
    Operator("hardsigmoid", "activation", "unary", fused="silu", formula=lambda x, vector: vector.hard_sigmoid(x)),
    Operator(
        "hardswish",
        "activation",
        "unary",
        zero_at_zero=True,
        fused="silu",
        formula=lambda x, vector: x * vector.hard_sigmoid(x),
    ),
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
    *alike("eq ne gt lt ge le", "comparison", "joined", cost="free"),
    *alike("logical_and logical_or logical_xor bitwise_and bitwise_or", "comparison", "joined"),
    *alike("isnan isinf logical_not bitwise_not", "comparison", "unary"),
)

COPIES = (
    *alike("dropout feature_dropout", "dropout", "unary", cost="free", zero_at_zero=True, identity=True),
    *alike("alpha_dropout feature_alpha_dropout", "dropout", "unary", cost="free", identity=True),
    *alike(
        "contiguous alias detach clone lift_fresh_copy lift_fresh",
        "copy",
        "unary",
        cost="free",
        zero_at_zero=True,
        identity=True,
    ),
    Operator("detach_copy", "copy", "unary", zero_at_zero=True, by_name_only=True),
    *alike("to _to_copy type_as", "cast", "unary", cost="free", zero_at_zero=True),
)
