"""A cost table of this machine, kept for the tests that compile for the target ``cpu``."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartc.measuring.cost_table_file import write_table
from tests.support.cost_tables import by_work, table


@pytest.fixture
def cost_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep a table whose times follow from a formula."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_table(table(by_work))
