"""``smartc run``: the model of a build on inputs of the user's."""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Mapping

import numpy as np

from smartc.artifact.run_in_batches import run_in_batches
from smartc.artifact.runner import Runner, open_runner
from smartc.cli.terminal import output, samples_bar
from smartc.core.errors import UserError
from smartc.core.regular_file import open_regular
from smartc.core.stored_arrays import Array, read_arrays
from smartc.core.write_file import write_file
from smartc.data.array_names import by_position, label_name

_ROWS_SHOWN = 10


def run(arguments: argparse.Namespace) -> None:
    """Run the model; write the outputs, or print what they are."""
    runner = open_runner(arguments.build, arguments.file)
    inputs = _named(_read(arguments.input), runner, arguments.input)
    runner.check(inputs, arguments.input)
    with samples_bar() as watch:
        outputs = run_in_batches(runner, inputs, watch)
    if arguments.output:
        write_file(arguments.output, _archive(outputs))
    _show(runner, outputs, arguments.output)


def _read(path: str) -> dict[str, Array] | Array:
    """Read the arrays of .npz, or the one of .npy."""
    fix = "Give an .npz file with an array per input, or an .npy file"
    try:
        with open_regular(path) as stream:
            return read_arrays(stream)
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=path, fix="Check the path") from error
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror or error})", where=path, fix=fix) from error
    except UserError:
        raise
    except Exception as error:
        raise UserError("it is damaged, or no file of arrays", where=path, fix=fix) from error


def _named(content: dict[str, Array] | Array, runner: Runner, path: str) -> dict[str, Array]:
    """Return arrays by the names of the model's inputs, as ``--data`` and ``--eval`` have them.

    NumPy's own names count as positions, labels are left out, and where the model has one input any name will do.
    """
    names = [wanted.name for wanted in runner.inputs]
    if isinstance(content, np.ndarray):
        content = {"arr_0": content}
    label = label_name(content, names)
    content = {name: array for name, array in content.items() if name != label}
    if len(content) == len(names) and (by_position(list(content)) or len(names) == 1):
        return dict(zip(names, content.values(), strict=True))
    missing = [name for name in names if name not in content]
    foreign = [name for name in content if name not in names]
    if missing or foreign:
        there = ", ".join(content) or "nothing"
        fact = f"it holds {there}, and the model takes {', '.join(map(str, runner.inputs))}"
        raise UserError(fact, where=path, fix="Name the arrays as the inputs, and leave others out")
    return {name: content[name] for name in names}


def _archive(arrays: Mapping[str, Array]) -> bytes:
    """Return arrays as .npz; numpy.savez itself cannot take every name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    return content.getvalue()


def _show(runner: Runner, outputs: Mapping[str, Array], path: str | None) -> None:
    """Print what the outputs are."""
    console = output()
    console.say(f"ran {runner.file}")
    for name, array in outputs.items():
        console.say(f"{name}: {_described(array)}")
        if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f":
            best = ", ".join(map(str, array[:_ROWS_SHOWN].argmax(1)))
            more = ", ..." if len(array) > _ROWS_SHOWN else ""
            console.say(f"  largest in each row: {best}{more}")
    if path:
        console.say(f"written: {path}")


def _described(array: Array) -> str:
    """Return type, shape and range of an array."""
    text = f"{array.dtype} {'x'.join(map(str, array.shape)) or 'scalar'}"
    if array.size and array.dtype.kind in "fiu":
        text += f", {array.min():.4g} to {array.max():.4g}, mean {array.mean(dtype=np.float64):.4g}"
    return text
