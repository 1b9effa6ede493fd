"""The reference of the command line, a page for each command, from the program itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import typer.main

from toolkit.cli.main import app

INTRODUCTION = """Every command, from its own help; `toolkit COMMAND --help` prints the same.
Exit codes: 0 done, 1 a claim or gate not met, 2 bad usage or input, 130 stopped by Ctrl-C."""


def commands() -> Mapping[str, Any]:
    """Return every command of `toolkit`, by its name, in the order of the help."""
    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def command_page(name: str, command: Any) -> str:
    """Write a command's page in Markdown: what it does, its usage, arguments, and options by group with defaults."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(["toolkit", name, *command.collect_usage_pieces(context)])
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    lines = [f"# toolkit {name}", "", (command.help or "").strip(), "", "```", usage, "```", ""]
    if arguments:
        rows = [(f"`{_shown(parameter)}`", *_meaning(parameter)) for parameter in arguments]
        lines += ["## Arguments", "", *_table(("argument", "meaning", "default"), rows), ""]
    for group, options in _groups(command).items():
        rows = [(_names(option), *_meaning(option)) for option in options]
        lines += [f"## {group}", "", *_table(("option", "meaning", "default"), rows), ""]
    return "\n".join(lines)


def index_page() -> str:
    """Write the list of commands, each with the first sentence of its help."""
    rows = [(f"[toolkit {name}]({name}.md)", _summary(command)) for name, command in commands().items()]
    return "\n".join(["# Commands", "", INTRODUCTION, "", *_table(("command", "what it does"), rows), ""])


def _groups(command: Any) -> dict[str, list[Any]]:
    """Sort the options of a command by the headings of its help."""
    groups: dict[str, list[Any]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            groups.setdefault(parameter.rich_help_panel or "Options", []).append(parameter)
    return groups


def _summary(command: Any) -> str:
    return str(command.help or "").strip().split("\n\n")[0].replace("\n", " ")


def _shown(argument: Any) -> str:
    return f"{argument.metavar or argument.name.upper()}{'...' if argument.nargs != 1 else ''}"


def _names(option: Any) -> str:
    """Give an option's names; as in the help, the twin --no-x of an option that is off by default is left out."""
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    names = [*option.opts, *(option.secondary_opts if option.default else [])]
    return " / ".join(f"`{name}{value}`" for name in names)


def _meaning(parameter: Any) -> tuple[str, str]:
    """Give a parameter's help and its default, which the help may state in words."""
    text, default = parameter.help or "", _default(parameter)
    if stated := re.search(r" \[default: (.+)\]$", text):
        return text[: stated.start()], stated[1]
    return text, default


def _default(parameter: Any) -> str:
    """Give a parameter's default as the help shows it; "required" where there is none."""
    if parameter.required:
        return "required"
    if parameter.default in (None, False, [], ()):
        return ""
    if parameter.default is True:
        return "on"
    values = parameter.default if isinstance(parameter.default, list | tuple) else [parameter.default]
    return f"`{' '.join(map(str, values))}`"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"


def _cell(text: str) -> str:
    """Keep a cell on one line, with its own signs shown as they stand."""
    return (
        escape(" ".join(text.split()), quote=False).replace("|", "&#124;")
        if "`" not in text
        else text.replace("|", "\\|")
    )
