"""SP-LAMP: keep the units of the highest LAMP scores."""

from __future__ import annotations

from smartc.learning.learners.importance import ImportanceInputs, lamp_importance
from smartc.learning.learners.learner import Learner
from smartc.masks.units import FloatArray


class SpLamp(Learner):
    """Keep the units of the highest LAMP scores at the start; all steps train what is left.

    Source: arXiv 2305.14403; LAMP, arXiv 2010.07611.
    """

    works_without_data = True

    @classmethod
    def first_importance(cls, known: ImportanceInputs) -> FloatArray:
        """Return the LAMP scores by the weights alone."""
        return lamp_importance(known, {})
