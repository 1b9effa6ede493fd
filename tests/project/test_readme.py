"""What README.md and docs/ tell people to type, exists; their links lead somewhere."""

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
BENCHMARKS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").rglob("*.py"))
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
    shown = {line.split()[1] for line in [*COMMANDS, *SHOWN] if line.startswith("toolkit ")}
    assert set(CLI.commands) <= shown  # type: ignore[attr-defined]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {line.split()[1] for line in LINES if line.startswith("make ")} | set(re.findall(r"`make ([\w-]+)", README))
    assert {"demo", "test"} <= named <= targets


def test_options_named_in_the_text_exist() -> None:
    every_command = (CLI, *CLI.commands.values())  # type: ignore[attr-defined]
    known = {option for command in every_command for one in command.params for option in one.opts}
    known |= {"--help", "--factory", "--auto-truncate"} | set(re.findall(r'"(--[a-z][\w-]*)"', BENCHMARKS))
    prose = re.sub(r"```.*?```", "", README + "".join(PAGES), flags=re.DOTALL)
    named = set(re.findall(r"`(?:\w+ )?(--[a-z][\w-]*)", prose))
    assert len(named) > 50
    assert named - known == set()


def test_extras_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    start = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `(\w+)`\s+\|.*\|.*\|$", start, re.M))
    named = {
        name
        for names in re.findall(r"tinybert-toolkit\[([\w,]+)\]", README + "".join(PAGES))
        for name in names.split(",")
    }
    assert {"distill", "demo"} <= table
    assert table | named <= set(extras)


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


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them: lower case, no signs but - and _, blanks as -."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lost(page: Path) -> list[str]:
    """Links of a page that lead to no file of the repository, or to no heading in it."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    problems = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in slugs(target)):
            problems.append(link)
    return problems


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    assert lost(page) == []


def test_a_lost_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# A one, two\n[x](#a-one-two) [y](#a) [z](b.md) [u](http://x.test/b.md)\n```\n[v](c.md)\n```\n")
    assert lost(page) == ["#a", "b.md"]


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
    twice = {"results"}  # at the front door and beside the other results
    counts = {name: pages.count(f"<!-- {name} -->\n") for name in sections()}
    assert [name for name, count in counts.items() if count != 1 + (name in twice)] == []
