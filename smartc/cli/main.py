"""The command line: reads the arguments, runs one command, and turns errors into one line and a code."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from smartc.cli.interrupts import interrupts_come_again
from smartc.cli.options import as_option, logged_as_options
from smartc.cli.streams import discard, flushed, machine_error, prepare_streams
from smartc.core.brief import harmless
from smartc.core.errors import SmartcError, UserError, first_line
from smartc.core.out_of_memory import chain, memory_error
from smartc.core.version import __version__

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["_Parser"]

INTERNAL, INTERRUPTED, BROKEN_PIPE = 70, 130, 141
# argparse takes two dashes for the end of the options, even where they are an option's value.
_EMPTY_OPTION = re.compile(r"(--[a-z-]+|-o)=?--")
_BUILD = "folder that smartc compile wrote"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; those of the process where None.

    Returns:
        The exit code: 0 done, 2 for the user to mend, 70 a fault of smartc, 130 interrupted, 141 when
        the reader of the output has gone.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        prepare_streams()
        with interrupts_come_again():
            return flushed(_run(argv))
    except BaseException as error:
        # Whatever it is: a user's own code may raise everything that there is.
        return flushed(_ended(error, argv))


def _ended(error: BaseException, argv: Sequence[str]) -> int:
    """Say in one line why the command line ends, and return the exit code."""
    stop = next((link for link in chain(error) if isinstance(link, KeyboardInterrupt)), None)
    if stop is not None:
        return _failed(str(stop) or "interrupted", INTERRUPTED, argv)
    if isinstance(error, BrokenPipeError):
        discard(sys.stdout)
        return BROKEN_PIPE
    known = memory_error(error, "smartc") or machine_error(error) or error
    if isinstance(known, SmartcError):
        return _failed(known.message(as_option), known.exit_code, argv)
    what = f"{type(error).__name__}: {first_line(error)}"
    if not isinstance(error, Exception):
        fact = f"code of your own ended the process ({what})"
        return _failed(f"{fact}. Let it return, or raise an error.", UserError.exit_code, argv)
    hint = "" if "--debug" in argv else ", with what --debug prints"
    return _failed(f"{what}. This is a fault of smartc: please report it{hint}.", INTERNAL, argv)


def _run(argv: Sequence[str]) -> int:
    """Import the chosen command, run it and return the exit code."""
    for text in argv:
        if found := _EMPTY_OPTION.fullmatch(text):
            raise UserError("it has no value", where=found[1], fix="Give one")
    try:
        arguments = command_line().parse_args(argv)
    except SystemExit as leaving:  # after --help and --version
        return leaving.code if isinstance(leaving.code, int) else 0
    debug = getattr(arguments, "debug", False)
    logging.basicConfig(level=logging.INFO if debug else logging.ERROR, format="smartc: %(message)s")
    if getattr(arguments, "verbose", False):
        logging.getLogger("smartc").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(logged_as_options)
    # As python itself does for a script: package.module:name is looked for in the current folder too.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    command = import_module(f"smartc.cli.{arguments.command}")
    command.run(arguments)
    return 0


def _failed(message: str, code: int, argv: Sequence[str]) -> int:
    """Print what is wrong on one line and return the exit code."""
    if "--debug" in argv:
        traceback.print_exc()
    try:
        print(f"smartc: {harmless(' '.join(message.split()))}", file=sys.stderr)
    except OSError:  # nobody is there to be told
        discard(sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments."""
        where = self.prog.removeprefix("smartc").strip() or "command line"
        raise UserError(message, where=where, fix=f"See {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print what --help and --version say; argparse's own keeps quiet about what it could not print."""
        (file or sys.stderr).write(message)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser("smartc", description="Make a trained PyTorch model faster on a named accelerator.")
    parser.add_argument("--version", action="version", version=f"smartc {__version__}")
    _add_debug(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    others = (_add_report, _add_explain, _add_verify, _add_compare, _add_run, _add_apply, _add_targets)
    for add in (_add_compile, *others):
        _add_debug(add(commands))
    return parser


def _add_compile(commands: Commands) -> _Parser:
    """Add ``smartc compile``."""
    parser = commands.add_parser("compile", help="remove channels or blocks, prove the result and write a build folder")
    _add_model(parser, "MODEL", "exported program, state_dict (.pt, .safetensors) or pickled module")
    parser.add_argument("--target", required=True, metavar="T", help="a name of smartc targets, or a .toml")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--sparsity", metavar="S", help="share of channels or blocks to remove, 0 to 1 (default 0.5)")
    budget.add_argument("--latency", metavar="L", help="time to reach: 0.6x of the original's, or 1.5ms")
    budget.add_argument("--macs", metavar="M", help="multiply-accumulates to reach: 0.5x, or 300M")
    budget.add_argument("--bytes", metavar="B", help="bytes of weights to reach: 0.5x, or 2MB")
    units = "auto (default), channel, block, RxC, RxC/shared or n:m"
    same = "keep one width in repeated blocks, as one number of a configuration tells it"
    parser.add_argument("--uniform", action="store_true", help=same)
    open_norms = "let norms lose channels, such as a transformer's residual stream: not exact, the error is stated"
    parser.add_argument("--approximate", action="store_true", help=open_norms)
    parser.add_argument("--granularity", default="auto", metavar="G", help=units)
    learners = "smart (default with --data), pdp, taylor, ac-dc, sp-lamp (default without), magnitude"
    parser.add_argument("--learner", metavar="NAME", help=f"where masks come from: {learners}")
    parser.add_argument("--eval", metavar="E", help="labelled inputs, or a metric package.module:name")
    least = "refuse, and write nothing, where the accuracy or the metric of --eval is less"
    parser.add_argument("--min-accuracy", metavar="A", help=least)
    least = "the same, where fewer of the inputs have the top-1 of the original, 0 to 1 (or the cosine is less)"
    parser.add_argument("--min-agreement", metavar="A", help=least)
    lowered = "onnx (default), tvm, both with a comma (default for cpu where TVM is installed), or pt2"
    parser.add_argument("--backend", metavar="B", help=lowered)
    parser.add_argument("-o", "--output", required=True, metavar="BUILD", help="folder to write")
    _add_selection(parser)
    outputs = "what to call the outputs, with commas (default: keys of a dict, else output_0, output_1)"
    parser.add_argument("--output-names", metavar="A,B", help=outputs)
    parser.add_argument("--force", action="store_true", help="replace a build in that folder, though it was trained")
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("-v", "--verbose", action="store_true", help="say on standard error which stage is done when")
    loud.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    dumped = "folder for the graph as text after every stage, and the passes that ran"
    parser.add_argument("--dump", metavar="DIR", help=dumped)
    _add_learning(parser)
    return parser


def _add_learning(parser: _Parser) -> None:
    """Add what learning from data takes."""
    group = parser.add_argument_group("learning")
    files = ".npz, .npy, .pt or .safetensors, a folder of images, or package.module:function that yields batches"
    group.add_argument("--data", metavar="D", help=files)
    group.add_argument("--preprocess", metavar="P", help="for images: imagenet, half, unit or mean=...:std=...")
    group.add_argument("--train", metavar="P.M:F", help="a loss of your own, called with model, inputs and labels")
    group.add_argument("--steps", metavar="N", help="steps in all (default: two passes over the data, at least 200)")
    group.add_argument("--batch", metavar="N", help="samples of a step (default 64, fewer where there are few)")
    group.add_argument("--seed", metavar="N", help="order of the samples (default 0)")
    group.add_argument("--precision", metavar="P", help="float32 (default) or bfloat16")
    group.add_argument("--resume", action="store_true", help="go on with a training that was cut off")


def _add_report(commands: Commands) -> _Parser:
    """Add ``smartc report``."""
    parser = commands.add_parser("report", help="show what each layer costs before and after")
    parser.add_argument("build", metavar="BUILD", help=_BUILD)
    form = parser.add_mutually_exclusive_group()
    rows = "write one row per layer, or print it where no file is given"
    form.add_argument("--csv", nargs="?", const="-", metavar="FILE", help=rows)
    form.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write report.json, or print it")
    form.add_argument("--html", metavar="FILE", help="write one page that needs nothing else")
    parser.add_argument("--all", action="store_true", help="show layers that cost next to nothing too")
    return parser


def _add_explain(commands: Commands) -> _Parser:
    """Add ``smartc explain``."""
    parser = commands.add_parser("explain", help="say what can be removed, or was, and why not more")
    _add_model(parser, "MODEL|BUILD", f"a model file, or a {_BUILD}")
    parser.add_argument("layer", nargs="?", metavar="LAYER", help="show this layer only, in full")
    parser.add_argument("--target", metavar="T", help="for a model file: count in tiles of this target")
    parser.add_argument("--html", metavar="FILE", help="for a model file: write one page that draws it")
    _add_selection(parser)
    return parser


def _add_verify(commands: Commands) -> _Parser:
    """Add ``smartc verify``."""
    parser = commands.add_parser("verify", help="check a build: hashes, and every file against the others")
    parser.add_argument("build", metavar="BUILD", help=_BUILD)
    return parser


def _add_compare(commands: Commands) -> _Parser:
    """Add ``smartc compare``."""
    parser = commands.add_parser("compare", help="show two builds side by side, layer by layer")
    parser.add_argument("build", metavar="BUILD", help=_BUILD)
    parser.add_argument("other", metavar="OTHER", help="the same, of the same network")
    parser.add_argument("--all", action="store_true", help="show layers that cost next to nothing too")
    return parser


def _add_run(commands: Commands) -> _Parser:
    """Add ``smartc run``."""
    parser = commands.add_parser("run", help="run a build on inputs of your own")
    parser.add_argument("build", metavar="BUILD", help=_BUILD)
    parser.add_argument("--input", required=True, metavar="FILE", help=".npz, an array per input; or .npy")
    parser.add_argument("-o", "--output", metavar="FILE", help=".npz to write the outputs to")
    files = ("model.onnx", "model.pt2", "model.so")
    text = "which file of the build: model.onnx (default where it is there), model.pt2 or model.so"
    parser.add_argument("--file", choices=files, metavar="NAME", help=text)
    return parser


def _add_apply(commands: Commands) -> _Parser:
    """Add ``smartc apply``."""
    parser = commands.add_parser("apply", help="write a build's result as weights for your own class")
    parser.add_argument("build", metavar="PLAN|BUILD", help=f"plan.json of a {_BUILD}, or the folder")
    parser.add_argument("model", metavar="P.M:F", help="package.module:class, or what else makes the original module")
    weights = "state_dict of the original, to be cut; without it the weights are the build's"
    parser.add_argument("--weights", metavar="FILE", help=weights)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=".safetensors to write")
    parser.add_argument("--allow-pickle", action="store_true", help="load a file that can run code")
    return parser


def _add_targets(commands: Commands) -> _Parser:
    """Add ``smartc targets``."""
    parser = commands.add_parser("targets", help="list the targets, show one in full, or measure this machine")
    parser.add_argument("name", nargs="*", metavar="NAME", help="a target's name or a .toml, or: calibrate cpu")
    toml = "print it as a file to begin one of your own from"
    parser.add_argument("--toml", action="store_true", help=toml)
    return parser


def _add_model(parser: argparse.ArgumentParser, name: str, meaning: str) -> None:
    """Add a model file and what loading it may need."""
    parser.add_argument("model", metavar=name, help=meaning)
    parser.add_argument("--model", dest="factory", metavar="P.M:F", help="package.module:factory for a state_dict")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="SHAPE",
        help="1x3x224x224 or ids=int64:1x128, once each",
    )
    parser.add_argument("--allow-pickle", action="store_true", help="load a file that can run code")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    """Add which parts of a model are compiled, and which of them are left alone."""
    which = "compile this output alone, by its position from 0 or its name; may be repeated"
    parser.add_argument("--outputs", action="append", default=None, metavar="O", help=which)
    named = "by name or by a pattern such as 'head.*'; may be repeated"
    parser.add_argument("--keep", action="append", default=[], metavar="L", help=f"layers to leave alone, {named}")
    parser.add_argument("--only", action="append", default=[], metavar="L", help="leave alone all layers but these")


def _add_debug(parser: argparse.ArgumentParser) -> None:
    """Add ``--debug``; it may stand before or after the command."""
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="print tracebacks and progress")
