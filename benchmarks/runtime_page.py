"""The results page of the runtime benchmark: a table and a plot of what ``runtime.py --out`` wrote.

    python benchmarks/runtime_page.py RESULTS --commit HASH [--page docs/runtime-results.md]

Rows of one network, form and number of threads that were written later replace those before.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smartc.measuring.processor import processor_name

PAGE = Path("docs/runtime-results.md")
# Pixels of the plot, and the ratios at its bottom and top.
WIDTH, HEIGHT, LEFT, TOP, LEGEND = 420, 320, 50, 40, 230
LOW, HIGH = 0.7, 12.0
TICKS = (1, 2, 3, 5, 10)
# Okabe and Ito's colours, which remain apart for the colour-blind.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
HEAD = """# What packed blocks gain at run time

Random blocks of 8 output by 8 input channels of every convolution and linear layer with at least eight input
channels are zero; the whole network is compiled by `--backend tvm` and timed against the dense network in ONNX
Runtime, in turns in one process, batch 1, 224x224 images (the BERT layer: 128 tokens). A cell holds the ratio of the
medians, above 1 where the compiled network is faster, and behind it the share of the ideal ratio, one over the
density. One thread: the processor's time; two: the wall's. `torch.compile` and TVM's default lowering run the dense
network, PyTorch's BSR the same blocks.
"""
SECTIONS = {
    "Networks": lambda subject, block: block == "8x8" and not subject[0].isdigit(),
    "Single layers, as networks of their own": lambda subject, block: block == "8x8" and subject[0].isdigit(),
    "Other blocks": lambda subject, block: block != "8x8",
}


@dataclass(frozen=True)
class Case:
    """What was measured: a network or a layer with zero blocks of some size, on some threads."""

    subject: str
    block: str
    threads: int


# Ratios to dense ONNX Runtime by form: a density, or the name of what else was timed.
Results = Mapping[Case, Mapping[str, float]]


def main() -> None:
    """Write the page and the plot beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--commit", required=True, help="what was measured")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    results = read(options.results)
    chosen = {
        title: {case: forms for case, forms in results.items() if belongs(case.subject, case.block)}
        for title, belongs in SECTIONS.items()
    }
    plot = options.page.with_suffix(".svg")
    parts = [
        HEAD,
        f"![Ratio to dense ONNX Runtime over the share of zero blocks]({plot.name})\n",
        *(f"## {title}\n\n{table(some)}" for title, some in chosen.items() if some),
        f"Made on {processor_name()} with `OMP_NUM_THREADS=1 TVM_NUM_THREADS=1 python benchmarks/runtime.py NETWORK "
        f"--densities 1 0.5 0.3 0.1 --out results.jsonl` at commit {options.commit}; with two threads both variables "
        "are 2.\n",
    ]
    options.page.parent.mkdir(parents=True, exist_ok=True)
    shown = chosen["Networks"] or results
    plot.write_text("\n".join(drawing({case: curve(forms) for case, forms in shown.items()})), encoding="utf-8")
    options.page.write_text("\n".join(parts), encoding="utf-8")


def read(path: Path) -> Results:
    """Return what a file of rows holds."""
    found: dict[Case, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        forms = found.setdefault(Case(row["subject"], row["block"], row["threads"]), {})
        forms[row["form"]] = row["onnx_runtime"] / row["milliseconds"]
    return found


def curve(forms: Mapping[str, float]) -> dict[float, float]:
    """Return the ratios of our kernels by density, the highest first."""
    ratios = {float(form): ratio for form, ratio in forms.items() if form[0].isdigit()}
    return dict(sorted(ratios.items(), reverse=True))


def table(results: Results) -> str:
    """Return a Markdown table of ratios and shares of the ideal."""
    densities = sorted({density for forms in results.values() for density in curve(forms)}, reverse=True)
    others = list(dict.fromkeys(form for forms in results.values() for form in forms if not form[0].isdigit()))
    headings = [*map(_zeros, densities), *map(_heading, others)]
    lines = [f"| | blocks | threads | {' | '.join(headings)} |", f"|---|---|--:|{'--:|' * len(headings)}"]
    for case, forms in results.items():
        ratios = curve(forms)
        cells = [f"{ratios[d]:.2f} ({ratios[d] * d:.0%})" if d in ratios else "-" for d in densities]
        cells += [f"{forms[form]:.2f}" if form in forms else "-" for form in others]
        lines.append(f"| {case.subject} | {case.block} | {case.threads} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _heading(form: str) -> str:
    """Return the heading of another form, in whose name a density may be."""
    name, _, density = form.rpartition(" ")
    return f"{name}, {_zeros(float(density))}" if density[0].isdigit() else form


def _zeros(density: float) -> str:
    """Return the heading of a density."""
    return "dense" if density == 1 else f"{1 - density:.0%} zeros"


def drawing(results: Mapping[Case, Mapping[float, float]]) -> Iterator[str]:
    """Yield the lines of an SVG: a curve per network, and the ideal."""
    width, height = LEFT + WIDTH + LEGEND, TOP + HEIGHT + 50
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
    yield f'font-size="12"><rect width="{width}" height="{height}" fill="white"/>'
    yield f'<text x="{LEFT}" y="20" font-size="14">Times faster than dense ONNX Runtime over the share of zeros</text>'
    for tick in TICKS:
        yield f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{_y(tick):.1f}" y2="{_y(tick):.1f}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 8}" y="{_y(tick) + 4:.1f}" text-anchor="end">{tick}</text>'
    densities = sorted({density for ratios in results.values() for density in ratios}, reverse=True)
    for density in densities:
        text = f"{1 - density:.0%}"
        yield f'<text x="{_x(density):.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{text}</text>'
    ideal = {density: 1 / density for density in densities}
    yield from _curve("ideal, one over the density", ideal, 0, 'stroke="black" stroke-dasharray="3 4"')
    for place, (case, ratios) in enumerate(results.items(), start=1):
        dash = ' stroke-dasharray="7 3"' if case.threads > 1 else ""
        name = case.subject if case.threads == 1 else f"{case.subject}, {case.threads} threads"
        yield from _curve(name, ratios, place, f'stroke="{COLOURS[(place - 1) % len(COLOURS)]}"{dash}')
    yield "</svg>"


def _curve(name: str, ratios: Mapping[float, float], place: int, stroke: str) -> Iterator[str]:
    """Yield one curve and its place in the legend."""
    points: Sequence[str] = [f"{_x(density):.1f},{_y(ratios[density]):.1f}" for density in sorted(ratios, reverse=True)]
    yield f'<polyline points="{" ".join(points)}" fill="none" stroke-width="2" {stroke}/>'
    y = TOP + 10 + 20 * place
    yield f'<line x1="{LEFT + WIDTH + 14}" x2="{LEFT + WIDTH + 40}" y1="{y}" y2="{y}" stroke-width="2" {stroke}/>'
    yield f'<text x="{LEFT + WIDTH + 46}" y="{y + 4}">{name}</text>'


def _x(density: float) -> float:
    """Return where a density is."""
    return LEFT + WIDTH * (1 - density)


def _y(ratio: float) -> float:
    """Return where a ratio is, on a logarithmic scale."""
    return TOP + HEIGHT * (1 - math.log(ratio / LOW) / math.log(HIGH / LOW))


if __name__ == "__main__":
    main()
