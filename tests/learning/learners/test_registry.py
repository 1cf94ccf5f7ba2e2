"""The learners by their names: which there are, and which of them need data."""

from __future__ import annotations

import pytest

from smartc.core.errors import UserError
from smartc.learning.learners.registry import LEARNERS, chosen_learner
from smartc.selection.importance import SCORES


def test_the_default_depends_on_the_data() -> None:
    assert (chosen_learner(None, with_data=True), chosen_learner(None, with_data=False)) == ("smart", "sp-lamp")


@pytest.mark.parametrize("name", LEARNERS)
def test_each_is_there_with_data(name: str) -> None:
    assert chosen_learner(name, with_data=True) == name


@pytest.mark.parametrize("name", LEARNERS)
def test_without_data_those_are_there_that_have_scores_of_channels(name: str) -> None:
    assert LEARNERS[name].works_without_data == (name in SCORES)
    if name in SCORES:
        assert chosen_learner(name, with_data=False) == name
        return
    with pytest.raises(UserError) as caught:
        chosen_learner(name, with_data=False)
    assert str(caught.value) == f"learner={name!r}: learns from data, and none is given. Add data=..."


@pytest.mark.parametrize(
    ("with_data", "known"), [(True, "smart, pdp, sp-lamp, magnitude, taylor, ac-dc"), (False, "sp-lamp, magnitude")]
)
def test_another_is_not_known(with_data: bool, known: str) -> None:
    with pytest.raises(UserError) as caught:
        chosen_learner("luck", with_data)
    assert str(caught.value) == f"learner='luck': not known. Choose one of {known}."
