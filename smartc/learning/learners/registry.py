"""All learners by the names that the user gives them."""

from __future__ import annotations

from smartc.core.errors import Argument, UserError
from smartc.learning.learners.ac_dc import AcDc
from smartc.learning.learners.learner import Learner
from smartc.learning.learners.magnitude import Magnitude
from smartc.learning.learners.pdp import Pdp
from smartc.learning.learners.smart import Smart
from smartc.learning.learners.sp_lamp import SpLamp
from smartc.learning.learners.taylor import Taylor

LEARNERS: dict[str, type[Learner]] = {
    "smart": Smart,
    "pdp": Pdp,
    "sp-lamp": SpLamp,
    "magnitude": Magnitude,
    "taylor": Taylor,
    "ac-dc": AcDc,
}
# What is used where the user names none: with data, and without.
DEFAULT, DEFAULT_WITHOUT_DATA = "smart", "sp-lamp"


def chosen_learner(name: str | None, with_data: bool) -> str:
    """Return the name of the learner to use: the one that was asked for, or the default.

    Args:
        name: What the user asked for, if anything.
        with_data: Whether there are data to learn from.

    Raises:
        UserError: There is no such learner, or it learns from data and there are none.
    """
    if not name:
        return DEFAULT if with_data else DEFAULT_WITHOUT_DATA
    known = [each for each, learner in LEARNERS.items() if with_data or learner.works_without_data]
    if name in known:
        return name
    if name in LEARNERS:
        raise UserError(
            "learns from data, and none is given", where=Argument("learner", name), fix=("Add ", Argument("data"))
        )
    raise UserError("not known", where=Argument("learner", name), fix=f"Choose one of {', '.join(known)}")
