"""However a command ends, it ends in one line and a code that means something."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartc.cli import main as command_line
from smartc.cli.main import main
from smartc.core.errors import UserError

OWN_CODE = """
import signal, sys, time, weakref
class Stop(KeyboardInterrupt): pass
def swallow():
    kept = Stop()
    watch = weakref.ref(kept, lambda _: signal.raise_signal(signal.SIGINT))
    del kept
    time.sleep(20)
def leave(): sys.exit(0)
def close(): raise GeneratorExit
def interrupt(): raise Stop
def fill(): raise MemoryError
"""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, also where the tests run in the background of a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _run(script: str, folder: Path) -> tuple[int, str]:
    """Run a line of shell in a folder and return the exit code and what is on standard error."""
    line = script.replace("smartc", f"{sys.executable} -m smartc")
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["smartc targets", "smartc --help", "smartc --version"])
def test_a_full_or_closed_output_is_told(tmp_path: Path, command: str) -> None:
    code, text = _run(f"{command} > /dev/full", tmp_path)
    assert (code, text.count("\n")) == (2, 1)
    assert "No space left on device" in text
    closed = "smartc: standard output: it is closed. Send it to a file, or to /dev/null.\n"
    assert _run(f"{command} >&-", tmp_path) == (2, closed)


def test_without_standard_error_the_code_still_tells(tmp_path: Path) -> None:
    assert _run("smartc targets nope 2>&-", tmp_path) == (2, "")
    assert _run("smartc targets nope 2>/dev/full", tmp_path) == (2, "")


@pytest.mark.parametrize("option", ["--sparsity=--", "--input=--", "-o--", "--target=--"])
def test_two_dashes_are_no_value(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "m.pt2", "--target", "npu-8x8", "-o", "b", option]) == 2
    name = option.removesuffix("--").removesuffix("=")
    assert capsys.readouterr().err == f"smartc: {name}: it has no value. Give one.\n"


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        ("leave", 2, "--data own_code:leave: it fails: SystemExit: 0. "),
        ("close", 2, "--data own_code:close: it fails: GeneratorExit: GeneratorExit. "),
        ("interrupt", 130, "interrupted\n"),
        ("swallow", 130, "interrupted\n"),
        ("fill", 2, "--data own_code:fill: there is not enough memory. Lower --batch, "),
    ],
)
@pytest.mark.usefixtures("interruptible")
def test_whatever_own_code_raises(
    function: str,
    code: int,
    message: str,
    tmp_path: Path,
    model_files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "own_code.py").write_text(OWN_CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_code", None)
    arguments = ["compile", str(model_files / "program.pt"), "--target=npu-8x8", f"--data=own_code:{function}", "-o=b"]
    assert main(arguments) == code
    assert capsys.readouterr().err.startswith(f"smartc: {message}")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SystemExit(0), 2, "code of your own ended the process (SystemExit: 0). Let it return, or raise an error."),
        (GeneratorExit(), 2, "code of your own ended the process (GeneratorExit: GeneratorExit). "),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 2, "f: it fails (No space left on device). Make room "),
        (UserError("a\x1b[2Jb", where="w", fix="f"), 2, "w: a?[2Jb. f."),
        (ValueError("x\ny"), 70, "ValueError: x. This is a fault of smartc: please report it, "),
    ],
)
def test_whatever_a_command_raises(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(command_line, "import_module", fail)
    assert main(["targets"]) == code
    text = capsys.readouterr().err
    assert text.startswith(f"smartc: {message}")
    assert text.count("\n") == 1


@pytest.mark.usefixtures("interruptible")
def test_an_early_interrupt_leaves_no_traceback(tmp_path: Path) -> None:
    """Interrupted while it imports: a slow module stands in the way of the first import of the command line."""
    (tmp_path / "argparse.py").write_text("import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "smartc", "targets"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "here").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "smartc: interrupted\n"
    assert process.returncode == 130
