"""The reference of the Python interface: every public name of the package, from its docstring."""

from __future__ import annotations

import toolkit
from website.commands import commands

INTRODUCTION = """# Python

`import toolkit` is light: a name imports the packages that it needs when it is first used. An input that cannot be used
raises `ToolkitError` with what was given, what was expected and what to do. Shapes: B batch, L tokens, N/M layers,
A heads, d/D widths, C classes.
"""


def public_names() -> list[str]:
    """Return the public names of the package with their paths, functions first."""
    return [f"toolkit.{name}" for name in sorted(toolkit.__all__, key=lambda name: (name[0].isupper(), name))]


def python_page() -> str:
    """Write the page, whose lines `::: NAME` mkdocstrings fills in."""
    return "\n\n".join([INTRODUCTION, *map(_entry, public_names()), ""])


def _entry(path: str) -> str:
    """Give a name's place on the page; a function that is a command takes the command's options."""
    name = path.rsplit(".", 1)[-1]
    if name not in commands():
        return f"::: {path}"
    arguments = f"Arguments: the options of [toolkit {name}](commands/{name}.md), `--batch-size 16` as `batch_size=16`."
    return f"::: {path}\n    options:\n      show_signature: false\n\n{arguments}"
