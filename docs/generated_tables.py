"""Tables and sections that Sphinx makes from the code when it builds the site, so that they cannot go stale."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from target_key_meanings import MEANINGS

from smartc.cli.main import command_line
from smartc.targets.target import Target


def commands() -> str:
    """Return a section per command of the command line, in Markdown."""
    (choices,) = (action for action in command_line()._actions if isinstance(action, argparse._SubParsersAction))
    helps = {action.dest: action.help for action in choices._choices_actions}
    return "\n".join(_command(name, helps[name], parser) for name, parser in choices.choices.items())


def target_keys() -> str:
    """Return a section per table of a target description: each key, its unit, what it may be, what it means."""
    return "\n".join(_section(name, kind) for name, kind in get_type_hints(Target).items() if is_dataclass(kind))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("smartc-commands", _directive(commands))
    app.add_directive("smartc-target-keys", _directive(target_keys))
    return {"parallel_read_safe": True}


def _directive(text: Callable[[], str]) -> type[SphinxDirective]:
    """Return the directive that puts a text of Markdown, sections and all, where it stands."""

    class Generated(SphinxDirective):
        """A text made from the code."""

        def run(self) -> list[nodes.Node]:
            """Return the nodes of the text."""
            return self.parse_text_to_nodes(text(), allow_section_headings=True)

    return Generated


def _command(name: str, purpose: str | None, parser: argparse.ArgumentParser) -> str:
    """Return the section of one command: what it does, how it is called, and a table of its arguments."""
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    rows = [
        f"| {_spelling(action)} | {_plain(action.help)} |"
        for action in parser._actions
        if action.dest not in ("help", "debug")
    ]
    table = "\n".join(["| argument | meaning |", "|---|---|", *rows])
    return f"## smartc {name}\n\n{_capital(purpose)}.\n\n```text\n{usage}\n```\n\n{table}\n"


def _spelling(action: argparse.Action) -> str:
    """Return how an argument is written."""
    value = "" if action.nargs == 0 else f" {action.metavar}"
    if not action.option_strings:
        return f"`{action.metavar}`".replace("|", "\\|")
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _plain(text: str | None) -> str:
    """Return the text of a help without what Markdown would take for marks of its own."""
    return (text or "").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _capital(text: str | None) -> str:
    """Return a text whose first letter is large."""
    return (text or "")[:1].upper() + (text or "")[1:]


def _section(name: str, kind: type[Any]) -> str:
    """Return the section of one table of a target description."""
    rows = []
    for key, check in _keys(kind):
        unit, meaning = MEANINGS[f"{name}.{key}"]
        rows.append(f"| `{key}` | {unit or '-'} | {_plain(check.expected)} | {meaning} |")
    table = "\n".join(["| key | unit | may be | meaning |", "|---|---|---|---|", *rows])
    return f"### [{name}]\n\n{(kind.__doc__ or '').replace('``', '`')}\n\n{table}\n"


def _keys(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a table with what each may be."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if isinstance(hint, type):
            yield from _keys(hint, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hint.__metadata__[0]
