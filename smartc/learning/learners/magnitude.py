"""Magnitude: keep the largest units of every layer alike."""

from __future__ import annotations

from smartc.learning.learners.learner import Learner


class Magnitude(Learner):
    """Keep the largest units at the start; all steps train what is left."""

    works_without_data = True
