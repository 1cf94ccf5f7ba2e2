"""The results page: tables in Markdown, a plot per network beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.learning.chart import chart
from benchmarks.learning.results import Outcome, Result
from benchmarks.learning.summary import Column, Row, Section, column_name, granularity_name, sections
from smartc.core.errors import UserError

DATA_NAMES = {"fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
NETWORK_NAMES = {"resnet8": "ResNet-8", "resnet20": "ResNet-20"}
# Removed shares that differ by less are as asked: a network has a whole number of units.
ROUNDING = 0.015
_HEAD = """# What the learners reach

Every learner begins with the same trained network and has the same number of epochs for its search and the
fine-tuning after it, the same optimizer (SGD with momentum 0.9, one rise and fall of the learning rate), the same
batches and the same augmentation (half of the images flipped). Accuracy is that of the compiled network on the test
images, in percent: mean ± standard deviation over the seeds, the best of a row in bold. Torch-Pruning removes
channels by its group importance, from the whole network together, until the network costs what the one of `smart` in
the same row costs: in multiply-accumulates, or, where it can be had, in simulated time on the target within 3 %. Of
the others a share of the units is asked; of channels it goes in whole tiles of the target, and so that the network is
no slower than with the same share of every layer gone.
"""


def write_page(results: Sequence[Result], page: Path) -> list[Path]:
    """Write the page and its plots; return the files.

    Raises:
        UserError: There are no results, or the page cannot be written.
    """
    if not results:
        raise UserError("there are no results", where=str(page), fix="Run the benchmark first")
    found = sections(results)
    plots = {page.with_name(f"{_file_name(section, found)}.svg"): section for section in found}
    text = "\n".join([_HEAD, *(_section(section, path.name) for path, section in plots.items()), _made_by(results)])
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        for path, section in plots.items():
            path.write_text(chart(section, _title(section)), encoding="utf-8")
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"it cannot be written: {error.strerror}", where=str(page), fix="Choose another --page"
        ) from error
    return [page, *plots]


def _file_name(section: Section, found: Sequence[Section]) -> str:
    """Return the name of a section's plot, numbered where several are of one network."""
    protocol = section.protocol
    alike = [
        other for other in found if (other.protocol.data, other.protocol.network) == (protocol.data, protocol.network)
    ]
    number = f"-{alike.index(section) + 1}" if len(alike) > 1 else ""
    return f"learning-{protocol.data}-{protocol.network}{number}"


def _title(section: Section) -> str:
    """Return what a section is about."""
    protocol = section.protocol
    return f"{DATA_NAMES.get(protocol.data, protocol.data)}, {NETWORK_NAMES.get(protocol.network, protocol.network)}"


def _section(section: Section, plot: str) -> str:
    """Return a section: what was done, the plot, accuracy, cost."""
    title = _title(section)
    inner = [column for column in section.columns() if column[1] == "sparsity"]
    outer = [column for column in section.columns() if column[1] != "sparsity"]
    matched = [row for row in section.rows if set(outer) & set(section.columns(row))]
    parts = [
        f"## {title}\n",
        _protocol(section),
        f"![Accuracy of {title} over sparsity]({plot})\n",
        "Accuracy:\n",
        _table(section, section.rows, inner, _accuracy),
    ]
    if outer:
        beside = [("smart", "sparsity"), *outer]
        parts += ["Accuracy of channels, beside Torch-Pruning:\n", _table(section, matched, beside, _accuracy)]
        parts += ["Their cost, as shares of the dense network's:\n", _table(section, matched, beside, _cost)]
    parts += ["Cost of all, as shares of the dense network's:\n", _table(section, section.rows, inner, _cost)]
    return "\n".join([*parts, _effort(section)])


def _protocol(section: Section) -> str:
    """Return what was done, in a sentence or two."""
    protocol, dense = section.protocol, section.dense
    apart = f", of one seed up to {section.apart * 100:.1f} apart on different machines" if section.apart else ""
    images = f", {protocol.images} images" if protocol.images else ""
    return (
        f"Dense {_percent(dense.mean, dense.deviation, dense.count)} after {protocol.dense_epochs} epochs{apart}; "
        f"{protocol.epochs} epochs of search and fine-tuning{images}, batches of {protocol.batch}, "
        f"learning rate at most {protocol.rate:g} (before: {protocol.dense_rate:g}), "
        f"{'bfloat16' if protocol.bfloat16 else 'float32'}, {_count(len(section.seeds), 'seed')}, "
        f"target {protocol.target}.\n"
    )


def _effort(section: Section) -> str:
    """Return the processor time and the share of fractional masks of each learner, in a table."""
    lines = ["| learner | CPU seconds, mean | fractional masks at the end of the search, largest |", "|---|--:|--:|"]
    for column in section.columns():
        outcomes = [outcome for (_, place), cell in section.outcomes.items() if place == column for outcome in cell]
        seconds = sum(outcome.seconds for outcome in outcomes) / len(outcomes)
        shares = [outcome.fractional for outcome in outcomes if outcome.fractional is not None]
        lines.append(f"| {column_name(column)} | {seconds:.0f} | {f'{max(shares):.2%}' if shares else '-'} |")
    return "\n".join([*lines, ""])


def _table(section: Section, rows: Sequence[Row], columns: Sequence[Column], cells: Callable[..., list[str]]) -> str:
    """Return a Markdown table."""
    head = ["unit", "sparsity", *map(column_name, columns)]
    lines = [f"| {' | '.join(head)} |", f"|---|--:{'|--:' * len(columns)}|"]
    for row in rows:
        texts = [granularity_name(row[0]), f"{row[1]:.0%}", *cells(section, row, columns)]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join([*lines, ""])


def _accuracy(section: Section, row: Row, columns: Sequence[Column]) -> list[str]:
    """Return the accuracies of a row, the best in bold; where seeds are missing, how many there are."""
    spreads = [section.spread(row, column, lambda outcome: outcome.accuracy) for column in columns]
    best = max((spread.mean for spread in spreads if spread), default=0.0)
    texts = []
    for spread in spreads:
        if spread is None:
            texts.append("-")
            continue
        text = _percent(spread.mean, spread.deviation, spread.count)
        text = f"**{text}**" if spread.mean == best and len(spreads) > 1 else text
        texts.append(text + (f" ({_count(spread.count, 'seed')})" if spread.count < len(section.seeds) else ""))
    return texts


def _cost(section: Section, row: Row, columns: Sequence[Column]) -> list[str]:
    """Return multiply-accumulates and simulated time of a row, and what is removed where that is not what was asked."""
    texts = []
    for column in columns:
        outcomes = section.outcomes.get((row, column), ())
        removed = [outcome.removed for outcome in outcomes if outcome.removed is not None]
        macs, time = (section.spread(row, column, figure) for figure in (_macs, _time))
        text = f"MACs {macs.mean:.2f}, time {time.mean:.2f}" if macs and time else "-"
        if removed and abs(fmean(removed) - row[1]) > ROUNDING:
            text = f"{fmean(removed):.0%} removed, {text}"
        texts.append(text)
    return texts


def _macs(outcome: Outcome) -> float:
    """Return the share of multiply-accumulates."""
    return outcome.macs


def _time(outcome: Outcome) -> float:
    """Return the share of simulated time."""
    return outcome.latency


def _percent(mean: float, deviation: float, count: int) -> str:
    """Return for example ``90.9 ± 0.1``."""
    return f"{mean * 100:.1f}" + (f" ± {deviation * 100:.1f}" if count > 1 else "")


def _count(number: int, what: str) -> str:
    """Return for example ``3 seeds``."""
    return f"{number} {what}{'s' if number != 1 else ''}"


def _made_by(results: Sequence[Result]) -> str:
    """Return the commands and the commits that made the results."""
    made = [result.provenance for result in results]
    commands = "\n".join(dict.fromkeys(one.command for one in made))
    versions = ", ".join(dict.fromkeys(f"smartc {one.smartc}, commit {one.commit}, on {one.device}" for one in made))
    return f"## Made by\n\n```\n{commands}\n```\n\n{versions}.\n"
