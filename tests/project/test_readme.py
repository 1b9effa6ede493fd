"""What the README tells people to type, exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from tests.support.paths import ROOT
from toolkit.cli.main import app

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
LINES = [line.removeprefix("$ ").strip() for _, block in BLOCKS for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("toolkit ")]
PAGES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
SHOWN = [line.removeprefix("$ ").strip() for page in PAGES for line in page.replace("\\\n", " ").splitlines()]
CLI = typer.main.get_command(app)


def parse(line: str) -> str:
    """The subcommand that a line names; raises what the real parser raises for options that do not exist."""
    name, *rest = shlex.split(line, comments=True)[1:]
    command = CLI.commands[name]  # type: ignore[attr-defined]
    with CLI.make_context("toolkit", [name, *rest], resilient_parsing=False) as parent:
        command.make_context(name, rest, parent=parent)
    return name


@pytest.mark.parametrize("line", [*COMMANDS, *(line for line in SHOWN if line.startswith("toolkit "))])
def test_every_command_line_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("student.toml").write_text('teacher = "t"\ntask = "sst2"\nout = "o"\n')  # as the line before it makes one
    assert parse(line.partition(" > ")[0]) in CLI.commands  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line", ["toolkit export a --int9 --out b", "toolkit distill --task sst2", "toolkit frobnicate"]
)
def test_a_wrong_line_does_not_parse(line: str) -> None:
    with pytest.raises(Exception, match=r"int9|out|frobnicate"):
        parse(line)


def test_every_command_is_shown() -> None:
    shown = {line.split()[1] for line in COMMANDS} | set(re.findall(r"make (\w+)", README))
    assert set(CLI.commands) <= shown  # type: ignore[attr-defined]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {line.split()[1] for line in LINES if line.startswith("make ")} | set(re.findall(r"`make ([\w-]+)", README))
    assert {"demo", "test"} <= named <= targets


def test_options_named_in_the_text_exist() -> None:
    known = {option for command in CLI.commands.values() for one in command.params for option in one.opts}  # type: ignore[attr-defined]
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    named = set(re.findall(r"`(?:\w+ )?(--[a-z][\w-]*)", prose))
    assert named
    assert named - known == {"--help"} & named


def test_extras_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = set(re.findall(r"tinybert-toolkit\[(\w+)\]", README)) | set(
        re.findall(r"^\| `(?!inputs)(\w+)`\s+\|.*\|.*\|$", README, re.M)
    )
    assert {"distill", "demo"} <= named <= set(extras)


def test_the_python_example_runs(
    tiny_teacher: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = next(block for language, block in BLOCKS if language == "python")
    small = 'distill(student="2/16/32/4", intermediate_epochs=0, prediction_epochs=1, '
    changes = {
        '"runs/teacher"': repr(str(tiny_teacher)), '"reviews"': repr(str(data_dir)), "distill(": small,
        "export(": "export(max_drop=50.0, ",
    }  # fmt: skip
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    monkeypatch.chdir(tmp_path)
    exec(source, {})
    assert re.search(r"^\[\[LabelScore\(label='(posi|nega)tive', score=0\.", capsys.readouterr().out, re.MULTILINE)


def test_links_inside_the_repository_lead_somewhere() -> None:
    local = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith(("http", "#"))]
    assert [link for link in local if not (ROOT / link.split("#")[0]).exists()] == []


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_the_results_are_those_of_the_report_files(page: Path) -> None:
    from benchmarks.publish import fill, sections

    text = page.read_text(encoding="utf-8")
    assert fill(text, sections()) == text, "run: make results"


def test_every_stored_result_is_shown() -> None:
    from benchmarks.publish import sections

    pages = README + "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert [name for name in sections() if pages.count(f"<!-- {name} -->\n") != 1] == []
