"""Fixtures that several tests share: files are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_networks import Refusal, save_every_form


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the small network in every form that a model file can have."""
    folder = tmp_path_factory.mktemp("models")
    save_every_form(folder)
    return folder


@pytest.fixture
def refuse(model_files: Path) -> Refusal:
    """Return what loads a file that must be refused, and returns the message."""
    return Refusal(model_files)
