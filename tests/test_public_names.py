"""What ``import smartc`` offers: the names, whoever imports what, from wherever it is started."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path

import pytest

import smartc

ROOT = Path(__file__).parent.parent
PACKAGES = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
# Of each, the public function must win over the module of its name.
IMPORTS = """
import smartc.compile, smartc.prepare
from smartc.compile import start
from smartc.prepare import Preparation
import smartc
print(type(smartc.compile).__name__, type(smartc.prepare).__name__, smartc.Preparation is Preparation)
"""


def python(*arguments: str, folder: Path, packages: Path | None = None) -> str:
    """Return what Python prints in a folder without what an editable installation adds to its search."""
    paths = os.pathsep.join(map(str, [packages, *PACKAGES] if packages else PACKAGES))
    done = subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder of packages in which smartc lies as an ordinary installation puts it."""
    package = tmp_path / "packages" / "smartc"
    package.mkdir(parents=True)
    for entry in (*(ROOT / "smartc").iterdir(), ROOT / "passes", ROOT / "targets"):
        (package / entry.name).symlink_to(entry)
    return package.parent


def test_the_names_are_the_public_ones_and_each_is_there() -> None:
    assert dir(smartc) == sorted(smartc.__all__)
    for name in smartc.__all__:
        assert getattr(smartc, name) is not None
    with pytest.raises(AttributeError, match="module 'smartc' has no attribute 'prune'"):
        _ = smartc.prune


def test_functions_stay_functions_when_their_modules_are_imported() -> None:
    for name in ("compile", "prepare"):
        module = import_module(f"smartc.{name}")
        assert inspect.ismodule(module)
        assert getattr(smartc, name) is getattr(module, name)


@pytest.mark.slow
def test_functions_are_functions_when_their_modules_come_first() -> None:
    assert python("-c", IMPORTS, folder=ROOT) == "function function True\n"


def test_the_command_starts_from_the_repository(installed: Path) -> None:
    assert python("-m", "smartc", "--help", folder=ROOT, packages=installed).startswith("usage: smartc ")


@pytest.mark.parametrize("is_installed", [True, False])
def test_passes_and_targets_are_found_from_the_repository(installed: Path, is_installed: bool) -> None:
    code = "import smartc, smartc.passes, smartc.targets; print(smartc.__file__, smartc.passes.__file__)"
    printed = python("-c", code, folder=ROOT, packages=installed if is_installed else None)
    assert printed.split() == [str(ROOT / "smartc" / "__init__.py"), str(ROOT / "passes" / "__init__.py")]


def test_passes_and_targets_are_found_where_they_are_installed(installed: Path, tmp_path: Path) -> None:
    code = "import smartc.passes, smartc.targets; print(smartc.passes.__file__)"
    printed = python("-c", code, folder=tmp_path, packages=installed)
    assert printed.strip() == str(installed / "smartc" / "passes" / "__init__.py")
