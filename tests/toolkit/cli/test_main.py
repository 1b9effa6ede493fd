"""The real command, as a process where exit codes matter: one-screen errors, nothing half-written."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from tests.support.arithmetic_bundles import RANKS, save_arithmetic
from tests.support.command_line import refused, toolkit
from tests.support.paths import ROOT
from toolkit.bundle.format import open_bundle
from toolkit.cli.main import app, main
from toolkit.tasks import Task


def test_general_and_task_options_clash_in_one_error() -> None:
    message = refused(toolkit(
        "distill", "--general", "--teacher", "t", "--out", "o", "--corpus", "c.txt", "--task", "sst2", "--data", "d",
        "--augment", "a.parquet",
    ))  # fmt: skip
    assert "--general takes no --task, --data, --augment" in message


def test_no_command_shows_help_and_version_is_printed() -> None:
    assert "Commands" in toolkit().stdout + toolkit().stderr
    assert toolkit("--version").stdout.startswith("tinybert-toolkit 0.")


def test_help_gives_each_command_one_whole_line() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    lines = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == [
        "demo", "finetune", "distill", "compress", "augment", "evaluate", "inspect", "export", "calibrate", "bench",
        "cascade", "predict", "score", "serve", "push", "pull", "sign", "verify",
    ]  # fmt: skip
    assert all(line.endswith(".") and not line.endswith("...") and len(line) <= 78 for line in lines)


def test_h_is_help_and_predict_shows_the_best_labels(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for command in ([], ["predict"], ["bench"]):
        short, long = (CliRunner().invoke(app, [*command, flag]) for flag in ("-h", "--help"))
        assert (short.exit_code, short.output) == (0, long.output)
    task = Task("intents", tuple(f"label-{i}" for i in range(30)))
    many = str(save_arithmetic(tmp_path / "many", tokenizer, RANKS, task=task))
    shown = CliRunner().invoke(app, ["predict", many, "good"])
    assert (shown.output.count("label-"), "and 25 more (--top-k 30)" in shown.output) == (5, True)
    assert CliRunner().invoke(app, ["predict", many, "good", "--top-k", "7"]).output.count("label-") == 7
    lines = CliRunner().invoke(app, ["predict", many, "-", "--top-k", "2"], input="good\n\nbad\n").output.splitlines()
    assert [line.split("\t")[1] for line in lines] == ["good", "bad"]
    assert lines[0].startswith("label-29 0.6321, label-28 0.2325\t")  # softmax of 0 to 29: (1 - 1/e) / e^k


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        environment = {"_TOOLKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(app, [], prog_name="toolkit", env=environment).output.split()

    assert completed("toolkit ex") == ["export"]
    assert completed("toolkit export --max") == ["--max-drop", "--max-pieces"]
    # the shell is found among the parents of the process; a last command would take bash's place
    command = f'"{sys.executable}" -m toolkit --show-completion; true'
    script = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "=complete_bash" in script


def test_unknown_task() -> None:
    message = refused(toolkit("finetune", "--model", "m", "--task", "sst3", "--out", "o", "--epochs", "0"))
    assert "--task sst3: expected one of cola, sst2" in message
    assert "--epochs 0" in message, "listed with the other problems"
    assert "--task sst3" in refused(toolkit("augment", "--task", "sst3", "--out", "o.parquet"))


def test_a_flipped_byte_is_named_and_nothing_is_written(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_student, broken)
    weights = bytearray((broken / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 16
    (broken / "model.safetensors").write_bytes(weights)
    for arguments in (["evaluate", broken, "--data", data_dir], ["export", broken, "--out", tmp_path / "o"]):
        assert "model.safetensors is damaged" in refused(toolkit(*arguments))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_a_disk_that_is_full_is_a_sentence_and_nothing_stays(
    tiny_student: Path, data_dir: Path, tmp_path: Path
) -> None:
    """A bound on the size of files stands for the disk."""
    program = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from toolkit.cli.main import main\nsys.argv[0] = 'toolkit'\nmain()"
    )
    arguments = ["export", tiny_student, "--fp32", "--data", data_dir, "--out", tmp_path / "o"]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: File too large")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_too_few_open_files_are_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("toolkit.cli.main.app", run)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: Too many open files\ntry: ulimit -n 4096\n"


def test_a_missing_column(tiny_student: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.csv").write_text("words,label\nfine,positive\n")
    message = refused(toolkit("evaluate", tiny_student, "--data", tmp_path))
    assert "no column 'text'" in message
    assert "'words'" in message


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
    for step in steps:
        message = refused(toolkit(*step, cwd=tmp_path))
        assert f"--out {step[step.index('--out') + 1]} is there already, made by the same options\n" in message
        assert message.endswith("try: --overwrite, or another --out\n")
    assert "keeps" in toolkit(*steps[1], "--overwrite", cwd=tmp_path).stdout
    int8 = open_bundle(tmp_path / "int8")
    scored = toolkit("evaluate", "int8", "--data", str(data_dir), cwd=tmp_path).stdout
    assert f"accuracy {100 * int8.manifest['metrics']['accuracy']:.2f}" in scored
    answer = toolkit("predict", "int8", "a lovely film", cwd=tmp_path).stdout
    assert answer.index("positive") < answer.index("negative")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "int8", "student", "teacher"]


def test_ctrl_c_says_that_the_command_can_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toolkit.evaluate", interrupted, raising=False)
    result = toolkit("evaluate", "bundle")
    assert result.returncode == 130
    assert result.stderr.startswith("stopped: a training, a search or a scoring goes on where it was")


def test_main_prints_the_error_and_exits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["toolkit", "evaluate", "/no/such/bundle"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "/no/such/bundle: no such directory" in capsys.readouterr().err
