"""How channels travel through each operator, by family; importing this fills the registry."""

from smartc.analysis.channel_rules import (
    constants,
    contractions,
    elementwise,
    norms,
    recurrent,
    reductions,
    reshaping,
    spatial,
    splitting,
    weighted,
)

FAMILIES = (
    constants,
    contractions,
    elementwise,
    norms,
    recurrent,
    reductions,
    reshaping,
    spatial,
    splitting,
    weighted,
)
