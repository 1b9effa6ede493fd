"""Options made from configuration classes: help, files, printed configurations, and what cannot be read."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.command_line import refused, toolkit
from toolkit import config
from toolkit.cli.main import app

COMMANDS = {
    "demo": config.DemoConfig, "finetune": config.FinetuneConfig, "distill": config.DistillConfig,
    "augment": config.AugmentConfig, "export": config.ExportConfig, "bench": config.BenchConfig,
    "serve": config.ServeConfig, "compress": config.CompressConfig,
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_its_help_and_its_default(command: str) -> None:
    # the help is wrapped at hyphens too
    text = "".join(CliRunner().invoke(app, [command, "--help"]).output.split())
    for field in dataclasses.fields(COMMANDS[command]):
        for name, shown in field.metadata.get("flags", {field.name: field.metadata.get("help")}).items():
            assert "".join(shown.split()) in text
            if not field.metadata.get("argument"):
                assert f"--{name.replace('_', '-')}" in text
        if isinstance(field.default, float):
            assert f"[default:{field.default}]" in text


LONG = ("distill", "finetune", "export", "bench", "serve", "augment")


def help_of(command: str) -> str:
    return CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"}).output


def sections(text: str) -> dict[str, list[str]]:
    """Options and arguments by heading, each without what follows its name."""
    headings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.fullmatch(r"[A-Z][a-z ]+:", line):
            headings[line[:-1]] = []
        elif re.match(r"  \S", line) and headings:
            list(headings.values())[-1].append(line.split()[0])
    return headings


@pytest.mark.parametrize("command", LONG)
def test_every_option_of_a_long_command_stands_in_its_group(command: str) -> None:
    expected: dict[str, set[str]] = {}
    for field in dataclasses.fields(COMMANDS[command]):
        if not field.metadata.get("argument"):
            names = field.metadata.get("flags", [field.name.replace("_", "-")])
            expected.setdefault(field.metadata["group"], set()).update(f"--{name}" for name in names)
    shown = {heading: set(names) for heading, names in sections(help_of(command)).items()}
    assert shown.pop("Options") == {"--config", "--print-config", "-h,"}
    shown.pop("Arguments", None)
    assert shown == expected
    assert len(shown) >= 4


@pytest.mark.parametrize("command", [*COMMANDS, "evaluate", "inspect", "predict"])
def test_help_shows_words_for_values_and_no_twins(command: str) -> None:
    text = help_of(command)
    assert not re.search(r"<\w+(\[\w+\])?>|INTEGER|FLOAT", text)
    assert "--no-" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_metavars_follow_the_type_and_the_field() -> None:
    text = help_of("distill")
    for part in ("--teacher DIR ", "--task TASK ", "--corpus FILE ", "--batch-size N ", "--warmup NUMBER "):
        assert f"  {part}" in text
    assert "  DIR...  ONNX bundles" in help_of("serve")
    assert "  DIR  PyTorch bundle" in help_of("export")


def test_a_flag_of_the_file_can_be_switched_off(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('teacher = "t"\ntask = "sst2"\nout = "o"\nshared-projection = true\n')
    assert "shared-projection = true" in shown("distill", "--config", path)
    assert "shared-projection = false" in shown("distill", "--config", path, "--no-shared-projection")


def test_options_reach_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    import toolkit.distillation.distill

    configs: list[config.DistillConfig] = []
    monkeypatch.setattr(toolkit.distillation.distill, "run_distill", configs.append)
    arguments = ["distill", "--teacher", "t", "--task", "sst2", "--out", "o", "--temperature", "2", "--seed", "7"]
    result = CliRunner().invoke(app, [*arguments, "--shared-projection", "--intermediate-epochs", "3"])
    assert result.exit_code == 0, result.output
    expected = config.DistillConfig(
        "t", "sst2", "o", temperature=2.0, seed=7, shared_projection=True, intermediate_epochs=3
    )
    assert configs == [expected]


def shown(command: str, *arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [command, *map(str, arguments), "--print-config"])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


NEEDED = {
    "demo": [], "finetune": ["--model", "m", "--task", "sst2", "--out", "o"],
    "distill": ["--teacher", "t", "--task", "sst2", "--out", "o", "--loss", "label=0.5", "--seeds", "1,2"],
    "augment": ["--task", "sst2", "--out", "o.parquet", "--glove", 'a "quoted" \\ path\x7fé'],
    "export": ["student", "--out", "o", "--fp32"], "bench": ["a", "b", "--batch-sizes", "1", "--batch-sizes", "4"],
    "serve": ["int8"], "compress": ["t", "--task", "sst2", "--max-latency-ms", "0.5", "--out", "o"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_printed_configuration_is_a_file_that_gives_it_again(command: str, tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text(shown(command, *NEEDED[command]), encoding="utf-8")
    assert shown(command, "--config", path) == path.read_text(encoding="utf-8")
    fields = {field.name: field for field in dataclasses.fields(COMMANDS[command])}
    stored = tomllib.loads(path.read_text(encoding="utf-8"))
    assert {key.replace("-", "_") for key in stored} <= set(fields)
    unset = set(fields) - {key.replace("-", "_") for key in stored}
    assert all(f"# {name.replace('_', '-')}: " in path.read_text(encoding="utf-8") for name in unset)


def test_the_printed_configuration_leaves_nothing_to_be_worked_out() -> None:
    stored = tomllib.loads(shown("distill", "--teacher", "t", "--task", "cola", "--out", "o"))
    assert (stored["intermediate-epochs"], stored["intermediate-lr"], stored["student"]) == (3, 2e-4, "4/312/1200/12")
    assert stored["loss"] == "attention=1,hidden=1,embedding=1,relations=0,prediction=1,label=0"
    general = tomllib.loads(shown("distill", "--general", "--teacher", "t", "--corpus", "c.txt", "--out", "o"))
    assert (general["corpus"], general["intermediate-epochs"], general["accumulation"]) == (["c.txt"], 3, 8)


def test_the_command_line_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import toolkit.distillation.distill

    configs: list[config.DistillConfig] = []
    monkeypatch.setattr(toolkit.distillation.distill, "run_distill", configs.append)
    path = tmp_path / "options.toml"
    path.write_text('teacher = "t"\ntask = "sst2"\nout = "o"\ntemperature = 2\nshared-projection = true\nseed = 3\n')
    result = CliRunner().invoke(app, ["distill", "--config", str(path), "--seed", "7"])
    assert result.exit_code == 0, result.output
    assert configs == [config.DistillConfig("t", "sst2", "o", temperature=2.0, seed=7, shared_projection=True)]


def printed(tmp_path: Path, *arguments: str) -> Path:
    path = tmp_path / "printed.toml"
    path.write_text(shown("distill", "--teacher", "t", "--task", "sst2", "--out", "o", *arguments), encoding="utf-8")
    return path


def test_values_of_a_printed_file_follow_the_options_that_they_come_from(tmp_path: Path) -> None:
    path = printed(tmp_path)
    plain = ("distill", "--teacher", "t", "--task", "sst2", "--out", "o")
    for change in (
        ["--objective", "relations"], ["--init", "random"], ["--task", "cola"],
        ["--objective", "prediction", "--loss", "label=1"],
    ):  # fmt: skip
        assert shown("distill", "--config", path, *change) == shown(*plain, *change)
    general = shown("distill", "--config", path, "--init", "random", "--intermediate-lr", "0.0002")
    assert "intermediate-lr = 0.0002" in general, "the command line gives it"


def test_values_of_a_file_that_are_the_user_s_own_stay(tmp_path: Path) -> None:
    path = printed(tmp_path, "--loss", "hidden=0.5", "--intermediate-lr", "0.001")
    stored = tomllib.loads(shown("distill", "--config", path, "--objective", "relations", "--init", "random"))
    assert stored["intermediate-lr"] == 0.001
    assert stored["loss"] == "attention=0,hidden=0.5,embedding=0,relations=1,prediction=1,label=0"
    short = tmp_path / "short.toml"  # it does not say what start the rate was chosen for
    short.write_text('teacher = "t"\ntask = "sst2"\nout = "o"\nintermediate-lr = 2e-4\n')
    assert "intermediate-lr = 0.0002" in shown("distill", "--config", short, "--init", "random")


def test_a_flag_wins_over_the_files_choice(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('source = "student"\nout = "o"\nprecision = "int8"\n')
    assert 'precision = "fp32"' in shown("export", "--config", path, "--fp32")
    assert 'precision = "int8"' in shown("export", "--config", path)


def test_every_problem_of_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text(
        'temprature = 2\nmax_rows = 5\nseed = 7.5\nbatch-size = "8"\nshared-projection = 1\ncorpus = "c.txt"\n'
        "lr = 0.1\ntemperature = true\n"
    )
    message = refused(toolkit("distill", "--config", path))
    assert "8 problems" in message
    for problem in (
        "temprature: no such option; did you mean temperature?", "max_rows: no such option; did you mean max-rows?",
        "seed = 7.5: expected a whole number", 'batch-size = "8": expected a whole number',
        "shared-projection = 1: expected true or false", 'corpus = "c.txt": expected a list of text in quotes',
        "lr: no such option", "temperature = true: expected a number",
    ):  # fmt: skip
        assert problem in message
    path.write_text("seed =\n")
    assert "is not TOML" in refused(toolkit("distill", "--config", path))
    assert "No such file" in refused(toolkit("distill", "--config", tmp_path / "gone.toml"))


def test_two_precisions_at_once() -> None:
    assert "--int8 and --fp32 together" in refused(toolkit("export", "x", "--out", "y", "--int8", "--fp32"))


def test_missing_option_and_unknown_option() -> None:
    assert "--model" in refused(toolkit("finetune", "--task", "sst2", "--out", "o"))
    assert "--colour" in refused(toolkit("distill", "--colour", "red"))
