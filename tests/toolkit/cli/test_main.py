"""The real command, as a process where exit codes matter: complete help, one-screen errors, nothing half-written."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from toolkit import config
from toolkit.bundle.format import open_bundle
from toolkit.cli.main import app, main

COMMANDS = {
    "demo": config.DemoConfig, "finetune": config.FinetuneConfig, "distill": config.DistillConfig,
    "augment": config.AugmentConfig,    "export": config.ExportConfig, "bench": config.BenchConfig,
    "serve": config.ServeConfig,
}  # fmt: skip


def toolkit(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that ended as a user's mistake should."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 25
    return result.stderr


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


def test_options_reach_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    import toolkit.distillation.distill

    seen: list[config.DistillConfig] = []
    monkeypatch.setattr(toolkit.distillation.distill, "run_distill", seen.append)
    arguments = ["distill", "--teacher", "t", "--task", "sst2", "--out", "o", "--temperature", "2", "--seed", "7"]
    result = CliRunner().invoke(app, [*arguments, "--shared-projection", "--intermediate-epochs", "3"])
    assert result.exit_code == 0, result.output
    expected = config.DistillConfig(
        "t", "sst2", "o", temperature=2.0, seed=7, shared_projection=True, intermediate_epochs=3
    )
    assert seen == [expected]


def shown(command: str, *arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [command, *map(str, arguments), "--print-config"])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


NEEDED = {
    "demo": [], "finetune": ["--model", "m", "--task", "sst2", "--out", "o"],
    "distill": ["--teacher", "t", "--task", "sst2", "--out", "o", "--loss", "label=0.5", "--seeds", "1,2"],
    "augment": ["--task", "sst2", "--out", "o.parquet", "--glove", 'a "quoted" \\ path\x7fé'],
    "export": ["student", "--out", "o", "--fp32"], "bench": ["a", "b", "--batch-sizes", "1", "--batch-sizes", "4"],
    "serve": ["int8"],
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
    assert (stored["intermediate-epochs"], stored["intermediate-lr"], stored["student"]) == (50, 2e-4, "4/312/1200/12")
    assert stored["loss"] == "attention=1,hidden=1,embedding=1,relations=0,prediction=1,label=0"
    general = tomllib.loads(shown("distill", "--general", "--teacher", "t", "--corpus", "c.txt", "--out", "o"))
    assert (general["corpus"], general["intermediate-epochs"], general["accumulation"]) == (["c.txt"], 3, 8)


def test_the_command_line_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import toolkit.distillation.distill

    seen: list[config.DistillConfig] = []
    monkeypatch.setattr(toolkit.distillation.distill, "run_distill", seen.append)
    path = tmp_path / "options.toml"
    path.write_text('teacher = "t"\ntask = "sst2"\nout = "o"\ntemperature = 2\nshared-projection = true\nseed = 3\n')
    result = CliRunner().invoke(app, ["distill", "--config", str(path), "--seed", "7"])
    assert result.exit_code == 0, result.output
    assert seen == [config.DistillConfig("t", "sst2", "o", temperature=2.0, seed=7, shared_projection=True)]


def test_a_flag_wins_over_the_files_choice(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('source = "student"\nout = "o"\nprecision = "int8"\n')
    assert 'precision = "fp32"' in shown("export", "--config", path, "--fp32")
    assert 'precision = "int8"' in shown("export", "--config", path)


def test_every_fault_of_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text(
        'temprature = 2\nmax_rows = 5\nseed = 7.5\nbatch-size = "8"\nshared-projection = 1\ncorpus = "c.txt"\n'
        "lr = 0.1\ntemperature = true\n"
    )
    message = refused(toolkit("distill", "--config", path))
    assert "8 problems" in message
    for fault in (
        "temprature: no such option; did you mean temperature?", "max_rows: no such option; did you mean max-rows?",
        "seed = 7.5: expected a whole number", 'batch-size = "8": expected a whole number',
        "shared-projection = 1: expected true or false", 'corpus = "c.txt": expected a list of text in quotes',
        "lr: no such option", "temperature = true: expected a number",
    ):  # fmt: skip
        assert fault in message
    path.write_text("seed =\n")
    assert "is not TOML" in refused(toolkit("distill", "--config", path))
    assert "No such file" in refused(toolkit("distill", "--config", tmp_path / "gone.toml"))


def test_general_and_task_options_clash_in_one_error() -> None:
    message = refused(toolkit(
        "distill", "--general", "--teacher", "t", "--out", "o", "--corpus", "c.txt", "--task", "sst2", "--data", "d",
        "--augment", "a.parquet",
    ))  # fmt: skip
    assert "--general takes no --task, --data, --augment" in message


def test_no_command_shows_help_and_version_is_printed() -> None:
    assert "Commands" in toolkit().stdout + toolkit().stderr
    assert toolkit("--version").stdout.startswith("tinybert-toolkit 0.")


def test_unknown_task() -> None:
    message = refused(toolkit("finetune", "--model", "m", "--task", "sst3", "--out", "o", "--epochs", "0"))
    assert "--task sst3: expected one of cola, sst2" in message
    assert "--epochs 0" in message, "told together with the other faults"
    assert "--task sst3" in refused(toolkit("augment", "--task", "sst3", "--out", "o.parquet"))


def test_missing_option_and_unknown_option() -> None:
    assert "--model" in refused(toolkit("finetune", "--task", "sst2", "--out", "o"))
    assert "--colour" in refused(toolkit("distill", "--colour", "red"))


def test_two_precisions_at_once() -> None:
    assert "--int8 and --fp32 together" in refused(toolkit("export", "x", "--out", "y", "--int8", "--fp32"))


def test_a_flipped_byte_is_named_and_nothing_is_written(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_student, broken)
    weights = bytearray((broken / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 16
    (broken / "model.safetensors").write_bytes(weights)
    for arguments in (["evaluate", broken, "--data", data_dir], ["export", broken, "--out", tmp_path / "o"]):
        assert "model.safetensors is damaged" in refused(toolkit(*arguments))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_a_missing_column(tiny_student: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.csv").write_text("sentence,label\nfine,positive\n")
    message = refused(toolkit("evaluate", tiny_student, "--data", tmp_path))
    assert "no column 'text'" in message
    assert "'sentence'" in message


def test_a_corrupt_tokenizer_in_a_plain_directory(
    tiny_bert: Callable[..., Any], save_model: Callable[..., Path], data_dir: Path, tmp_path: Path
) -> None:
    plain = save_model(tiny_bert(), tmp_path / "plain")
    (plain / "tokenizer.json").write_bytes((plain / "tokenizer.json").read_bytes()[:-40])
    out = tmp_path / "o"
    message = refused(toolkit("finetune", "--model", plain, "--task", "auto", "--data", data_dir, "--out", out))
    assert str(plain) in message
    assert not out.exists()


def test_heads_that_differ(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    arguments = ["--teacher", tiny_student, "--task", "auto", "--data", data_dir, "--out", tmp_path / "o"]
    message = refused(toolkit("distill", *arguments, "--student", "2/24/48/3"))
    assert "4 attention heads, the student 3" in message
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_something_else_is_kept(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    message = refused(toolkit("export", tiny_student, "--out", tmp_path / "notes", "--data", data_dir))
    assert "not overwritten" in message
    assert (tmp_path / "notes" / "diary.txt").read_text() == "mine"


def test_finetune_to_prediction(
    tiny_bert: Callable[..., Any], save_model: Callable[..., Path], data_dir: Path, tmp_path: Path
) -> None:
    """The README's way, by the commands themselves: every step reads what the one before wrote."""
    save_model(tiny_bert(initializer_range=0.05), tmp_path / "encoder")
    common = ["--task", "auto", "--data", str(data_dir)]
    steps = [
        ["finetune", "--model", "encoder", *common, "--out", "teacher", "--epochs", "6", "--lr", "5e-3"],
        ["distill", "--teacher", "teacher", *common, "--out", "student", "--student", "2/16/32/4",
         "--intermediate-epochs", "8", "--intermediate-lr", "5e-3", "--prediction-epochs", "2"],
        ["export", "student", "--int8", "--data", str(data_dir), "--out", "int8", "--max-drop", "5"],
    ]  # fmt: skip
    for step in steps:
        result = toolkit(*step, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
    assert "keeps" in toolkit(*steps[1], cwd=tmp_path).stdout  # an earlier bundle is replaced
    int8 = open_bundle(tmp_path / "int8")
    scored = toolkit("evaluate", "int8", "--data", str(data_dir), cwd=tmp_path).stdout
    assert f"accuracy {100 * int8.manifest['metrics']['accuracy']:.2f}" in scored
    answer = toolkit("predict", "int8", "a lovely film", cwd=tmp_path).stdout
    assert answer.index("positive") < answer.index("negative")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "int8", "student", "teacher"]


def test_main_prints_the_error_and_exits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["toolkit", "evaluate", "/no/such/bundle"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "/no/such/bundle: no such directory" in capsys.readouterr().err
