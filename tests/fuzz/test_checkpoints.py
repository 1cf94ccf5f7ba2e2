"""States of a training whose parts are mutated: refused, or gone on with to the end."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartc.core.errors import UserError
from smartc.learning.training.checkpoint import Checkpoint
from smartc.learning.training.mask_search import MaskSearch
from smartc.learning.training.weight_optimizer import weight_optimizer
from tests.fuzz.archives import mutated_safetensors
from tests.fuzz.mutations import FUZZ, mutated_bytes, mutated_value
from tests.support.learning_networks import search, train

pytestmark = pytest.mark.slow

STEPS = 6


def _begun(steps: int) -> MaskSearch:
    """Return a search that has not begun."""
    return search("4x4", latency="0.7x", steps=steps)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a state after four of the steps."""
    path = tmp_path_factory.mktemp("checkpoint") / "state"
    found = _begun(STEPS)
    optimizer = weight_optimizer(found.model, {"smartc_masks.scores"}, 0.01)
    found.steps = 4
    train(found, optimizer)
    Checkpoint(path, "a").write(found, optimizer)
    return path.read_bytes()


@st.composite
def _mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a state mutated in its bytes, in its header, or in one of the facts that are JSON within it."""
    if draw(st.integers(0, 2)):
        return draw(st.one_of(mutated_bytes(content), mutated_safetensors(content)))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    facts = {name: json.loads(text) for name, text in header["__metadata__"].items() if name not in ("schema", "about")}
    texts = {name: json.dumps(value) for name, value in draw(mutated_value(facts)).items()}
    header["__metadata__"] = {**{key: header["__metadata__"][key] for key in ("schema", "about")}, **texts}
    packed = json.dumps(header).encode()
    return len(packed).to_bytes(8, "little") + packed + content[8 + length :]


@given(data=st.data())
@FUZZ
def test_states(state: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "state"
    path.write_bytes(data.draw(_mutated(state)))
    found = _begun(STEPS)
    optimizer = weight_optimizer(found.model, {"smartc_masks.scores"}, 0.01)
    with contextlib.suppress(UserError):
        Checkpoint(path, "a", resume=True).restore(found, optimizer)
        train(found, optimizer)
        assert found.done == STEPS
