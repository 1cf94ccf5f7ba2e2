"""Compile every network of the zoo and of torchvision, and compare each with its masked original.

    python benchmarks/zoo.py [--tag zoo|torchvision] [--only PATTERN] [--sparsity S] [--limit SECONDS]

One line per network: its name, the processor seconds of compiling it, the verdict, the largest
relative error over three batch sizes, the shares of channels removed (of the prunable ones by the
report, of all by count) and left whole. Exits 1 if any network is wrong or crashes.
"""

from __future__ import annotations

import argparse
import fnmatch
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support import torchvision_models
from tests.support.channel_count import ChannelCount, count_channels
from tests.support.oracle import TOLERANCE, errors_by_batch, removed_share
from tests.support.zoo import CASES

# Beyond the tolerance but still rounding: sums in another order behind a division by something small.
ROUNDING = 1e-6
NOTHING = ChannelCount(0, 0, 0)
Build = Callable[[], tuple[nn.Module, tuple[Any, ...]]]


@dataclass(frozen=True)
class Outcome:
    """What became of one network.

    Args:
        name: Tag and name.
        verdict: exact, approx, wrong or crash.
        seconds: Processor seconds of compiling.
        error: Largest relative error.
        reported: Share of the prunable channels that is gone, by the report.
        channels: Channels by count.
        note: Why it crashed, or what is odd.
    """

    name: str
    verdict: str
    seconds: float
    error: float = float("nan")
    reported: float = float("nan")
    channels: ChannelCount = NOTHING
    note: str = ""

    @property
    def line(self) -> str:
        """Return the outcome as one line."""
        total = max(1, self.channels.total)
        shares = f"{self.reported:6.1%} {self.channels.removed / total:6.1%} {1 - self.channels.cut / total:6.1%}"
        return f"{self.name:46} {self.seconds:7.2f} s {self.verdict:6} {self.error:8.1e} {shares}  {self.note}"


def networks(tag: str | None, pattern: str) -> Iterator[tuple[str, Build]]:
    """Yield the name and the maker of each network that is asked for."""
    tagged = {f"torchvision/{name}": _torchvision(name) for name in torchvision_models.BUILDERS}
    tagged |= {f"zoo/{name}": case.build for name, case in CASES.items()}
    for name, make in tagged.items():
        if tag in (None, name.split("/")[0]) and fnmatch.fnmatch(name.split("/")[1], pattern):
            yield name, make


def _torchvision(name: str) -> Build:
    """Return a maker of one torchvision network."""
    return lambda: torchvision_models.build(name)


def judge(name: str, make: Build, sparsity: float) -> Outcome:
    """Compile one network and compare it with its masked original."""
    started = time.process_time()
    try:
        module, inputs = make()
        started = time.process_time()
        compiled = _compile(module, inputs, sparsity)
        seconds = time.process_time() - started
        error = max(errors_by_batch(module, inputs, compiled).values())
        channels = count_channels(module, compiled.plan.to_dict())
        reported = removed_share(compiled)
    except Exception as failure:
        return Outcome(name, "crash", time.process_time() - started, note=_reason(failure))
    verdict = "exact" if error <= TOLERANCE else "approx" if error <= ROUNDING else "wrong"
    note = "" if channels.removed or reported > 0 else "removed nothing"
    return Outcome(name, verdict, seconds, error, reported, channels, note)


def _compile(module: nn.Module, inputs: tuple[Any, ...], sparsity: float) -> Any:
    """Compile for the smallest array, without lowering."""
    import smartc

    return smartc.compile(module, inputs, target="npu-8x8", sparsity=sparsity, backends=())


def _reason(failure: Exception) -> str:
    """Return the kind, the first line and the innermost place of an exception."""
    frame = traceback.extract_tb(failure.__traceback__)[-1]
    first = (str(failure).strip().splitlines() or [""])[0]
    return f"{type(failure).__name__}: {first[:160]} ({Path(frame.filename).name}:{frame.lineno})"


def summary(outcomes: list[Outcome]) -> str:
    """Return the verdicts counted, in one line."""
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    reduced = sum(outcome.verdict == "exact" and not outcome.note for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    return (
        f"{len(outcomes)} networks in {seconds:.0f} CPU s: "
        f"{verdicts['exact']} exact ({reduced} of them smaller), {verdicts['approx']} approx, "
        f"{verdicts['wrong']} wrong, {verdicts['crash']} crash"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the networks that the arguments choose; return 1 if any is wrong or crashes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tag", choices=("torchvision", "zoo"), help="only these networks")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="only names that match, as in 'resnet*'")
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of prunable channels to remove")
    parser.add_argument("--limit", type=int, default=600, metavar="SECONDS", help="longest time for one network")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    print(f"{'network':46} {'compile':>9} {'verdict':6} {'error':>8} {'gone':>6} {'of all':>6} {'whole':>6}")
    outcomes = []
    for name, make in networks(options.tag, options.only):
        signal.alarm(options.limit)
        outcomes.append(judge(name, make, options.sparsity))
        signal.alarm(0)
        print(outcomes[-1].line.rstrip(), flush=True)
    print(summary(outcomes))
    return int(not outcomes or any(outcome.verdict in ("wrong", "crash") for outcome in outcomes))


def _stop(signum: int, frame: Any) -> None:
    """End a network that takes longer than its limit."""
    raise TimeoutError("took longer than --limit")


if __name__ == "__main__":
    sys.exit(main())
