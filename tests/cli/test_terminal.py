"""The bar of learning: what it says, where it stays silent, and how it takes turns with the spinner."""

from __future__ import annotations

import io
import re
import time
from contextlib import redirect_stderr
from dataclasses import dataclass

import pytest

from smartc.cli import terminal as speaking
from smartc.cli.terminal import learning_bar, progress
from tests.support.synthetic_report import learned

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ERASE = "\x1b[2K"


@dataclass(frozen=True)
class SearchState:
    """A moment as a search gives it at each step."""

    step: int
    loss: float | None = None
    temperature: float | None = None
    fractional: float | None = None


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True

    def frames(self) -> list[str]:
        """Return what was drawn, without codes."""
        drawn = CODES.sub("", self.getvalue()).replace("\r", "\n").split("\n")
        return [frame.rstrip() for frame in drawn if frame.strip()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal of 120 columns; pytest changes standard error between a fixture and its test."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def test_shows_steps_and_figures(terminal: Terminal) -> None:
    moments = learned().curve
    with redirect_stderr(terminal), learning_bar() as show:
        for moment in moments[:60]:
            show(moment, 200, 0.934)
    last = terminal.frames()[-1]
    assert re.fullmatch(
        r"[━╸╺]{24} 118/200 (\d:\d\d:\d\d|-:--:--) "
        r"loss 0\.341, budget 93 %, temp\. 0\.0155, 4\.4 % fractional",
        last,
    )
    assert terminal.getvalue().endswith(f"\r\x1b[1A{ERASE}")


def test_keeps_figures_that_a_moment_lacks_but_not_the_temperature_of_hard_masks(terminal: Terminal) -> None:
    with redirect_stderr(terminal), learning_bar() as show:
        show(SearchState(0, 2.5, 1.0, 0.9), 10, 0.1)
        show(SearchState(1, None, 0.5), 10, 0.2)
    assert terminal.frames()[-1].endswith("loss 2.50, budget 20 %, temp. 0.500, 90.0 % fractional")
    with redirect_stderr(terminal), learning_bar() as show:
        show(SearchState(0, 2.5, 1.0, 0.9), 10, 0.1)
        show(SearchState(8), 10, 1.0)
    assert terminal.frames()[-1].endswith("8/10 -:--:-- loss 2.50, budget 100 %, 90.0 % fractional")


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_fits_the_width(columns: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with redirect_stderr(terminal), learning_bar() as show:
        show(SearchState(100, 0.312, 0.0155, 0.044), 200, 0.934)
    assert max(map(len, terminal.frames())) <= columns
    drawn = " ".join(" ".join(terminal.frames()).split())
    for part in ("100/200", "-:--:--", "loss 0.312,", "temp. 0.0155,", "fractional"):
        assert part in drawn
    if columns >= 80:
        assert terminal.frames()[-1].endswith("loss 0.312, budget 93 %, temp. 0.0155, 4.4 % fractional")


def test_draws_nothing_before_the_first_moment(terminal: Terminal) -> None:
    with redirect_stderr(terminal), learning_bar():
        pass
    assert terminal.getvalue() == ""


def test_says_nothing_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("compiling"), learning_bar() as show:
        show(SearchState(1, 0.5, 0.1, 0.2), 10, 0.5)
    assert capsys.readouterr() == ("", "")


def test_takes_turns_with_the_spinner(terminal: Terminal) -> None:
    with redirect_stderr(terminal), progress("compiling"):
        with learning_bar() as show:
            before = len(terminal.frames())
            show(SearchState(3, 0.5, 0.1, 0.2), 10, 0.5)
            show(SearchState(4, 0.5, 0.1, 0.2), 10, 0.5)
        during = terminal.frames()[before:]
        after = len(terminal.frames())
    assert any("4/10" in frame for frame in during)
    assert all(re.search(r"\d/10", frame) for frame in during if "compiling" not in frame)
    places = [index for index, frame in enumerate(during) if re.search(r"\d/10", frame)]
    assert not any("compiling" in frame for frame in during[places[0] : places[-1] + 1])
    assert any("compiling" in frame for frame in terminal.frames()[after:])
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 3


def test_leaves_the_terminal_as_it_was_after_an_error(terminal: Terminal) -> None:
    def interrupted() -> None:
        with progress("compiling"), learning_bar() as show:
            show(SearchState(3, 0.5, 0.1, 0.2), 10, 0.5)
            raise KeyboardInterrupt

    with redirect_stderr(terminal), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_a_spinner_that_has_ended_stays_ended(terminal: Terminal) -> None:
    with redirect_stderr(terminal), learning_bar() as show:
        with progress("compiling"):
            show(SearchState(3, 0.5, 0.1, 0.2), 10, 0.5)
        ended = terminal.getvalue()
        show(SearchState(4, 0.5, 0.1, 0.2), 10, 0.5)
    assert "compiling" not in CODES.sub("", terminal.getvalue()[len(ended) :])


class Log(io.StringIO):
    """A standard error that is a file, and waits for so many lines."""

    def wait(self, lines: int) -> list[str]:
        """Return the lines once they are there."""
        deadline = time.monotonic() + 30
        while len(self.getvalue().splitlines()) < lines and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.getvalue().splitlines()


def test_a_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "MINUTE_S", 0.02)
    log = Log()
    with redirect_stderr(log), progress("compiling"), learning_bar() as watch:
        assert log.wait(1)[0] == "smartc: compiling, 0 min"
        watch(SearchState(3, loss=0.25), 40, 0.5)
        said = len(log.getvalue().splitlines())
        assert log.wait(said + 2)[-1] == "smartc: learning: step 4 of 40, loss 0.250, budget 50 %, 0 min"
        watch(SearchState(39, loss=0.25), 40, 1.0)
        said = len(log.getvalue().splitlines())
        assert log.wait(said + 2)[-1] == "smartc: compiling, 0 min"
    said = log.getvalue()
    time.sleep(0.1)
    assert log.getvalue() == said


def test_silence() -> None:
    log = Log()
    with redirect_stderr(log), learning_bar(silent=True) as watch:
        watch(SearchState(3, loss=0.25), 40, 0.5)
    assert log.getvalue() == ""
