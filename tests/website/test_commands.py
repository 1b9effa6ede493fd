"""The reference of the commands says what the program's own help says."""

from __future__ import annotations

import re
from html import unescape

import pytest
import typer
from typer.testing import CliRunner

from toolkit.cli.main import app
from toolkit.config.options import GroupedCommand
from website.commands import command_page, commands, index_page


def words(text: str) -> str:
    """Text without the signs of Markdown and of a table, as one line."""
    return " ".join(re.sub(r"[`|]", " ", unescape(text).replace("\\|", "|")).split())


@pytest.mark.parametrize("name", commands())
def test_every_option_stands_on_its_page_with_its_help_group_and_default(name: str) -> None:
    page = command_page(name, commands()[name])
    rows = {line.split("`")[1].split()[0]: line for line in page.splitlines() if line.startswith("| `--")}
    options = [parameter for parameter in commands()[name].params if parameter.param_type_name == "option"]
    assert set(rows) == {option.opts[0] for option in options if not option.hidden}
    for option in options:
        row = words(rows[option.opts[0]])
        assert words(re.sub(r" \[default: .*\]$", "", option.help)) in row
        above = page[: page.index(rows[option.opts[0]])]
        assert above.rsplit("\n## ", 1)[1].startswith(f"{option.rich_help_panel or 'Options'}\n")
        if option.default not in (None, False, True, []) and not option.required:
            shown = option.default if isinstance(option.default, list) else [option.default]
            assert row.endswith(" ".join(map(str, shown)))


def test_the_usage_is_that_of_the_help() -> None:
    printed = CliRunner().invoke(app, ["export", "--help"], prog_name="toolkit").stdout
    page = command_page("export", commands()["export"])
    assert re.findall(r"Usage: (.*)", printed) == [page.split("```\n")[1].strip()]


def test_cells_keep_their_signs_and_stated_defaults_move() -> None:
    app = typer.Typer()

    @app.command(cls=GroupedCommand)
    def cut(name: str = typer.Option(None, help="a|b <c> [default: its own]"), deep: bool = True) -> None: ...

    page = command_page("cut", typer.main.get_command(app))
    assert "| `--name TEXT` | a&#124;b &lt;c&gt; | its own |" in page
    assert "| `--deep` / `--no-deep` |  | on |" in page


def test_the_index_lists_every_command() -> None:
    assert re.findall(r"^\| \[toolkit (\w+)\]\(\1\.md\) \| \w", index_page(), re.MULTILINE) == list(commands())
