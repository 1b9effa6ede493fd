"""Each example runs from its first line to its last, and says what its student learnt."""

from __future__ import annotations

import ast
import csv
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import word_pieces
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
# a tiny encoder learns at another rate than a real one, and a student of its width is smaller still
FINETUNE = {"finetune(": "finetune(epochs=6, lr=5e-3, "}
DISTILL = {
    "distill(": "distill(student='2/16/32/4', intermediate_epochs=2, intermediate_lr=5e-3, prediction_epochs=2, "
    "prediction_lr=2e-3, allow_weak_teacher=True, "
}


def changed(name: str, folder: Path, changes: Mapping[str, str]) -> Path:
    """A copy of an example with other text in some places."""
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    (folder / name).write_text(source, encoding="utf-8")
    return folder / name


def run(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> list[str]:
    """The lines that a script prints, run as a program in its own folder."""
    monkeypatch.chdir(script.parent)
    monkeypatch.setattr(sys, "argv", [script.name, *map(str, arguments)])
    runpy.run_path(str(script), run_name="__main__")
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def encoder(tiny_bert: Callable[..., Any], tmp_path: Path) -> Callable[[str], Path]:
    """A tiny BERT with random weights and the words of an example's own rows."""

    def make(example: str) -> Path:
        from transformers import PreTrainedTokenizerFast

        runpy.run_path(str(EXAMPLES / example))["write_rows"](tmp_path / "rows")
        with (tmp_path / "rows" / "train.csv").open(newline="", encoding="utf-8") as file:
            words = {word for row in csv.reader(file) for cell in row for word in cell.split()}
        tokenizer = word_pieces(sorted(words))
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        model = tiny_bert(vocab_size=tokenizer.get_vocab_size(), initializer_range=0.05)
        model.save_pretrained(tmp_path / "encoder")
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", model_max_length=64, **names)
        fast.save_pretrained(tmp_path / "encoder")
        return tmp_path / "encoder"

    return make


def test_own_data_becomes_a_service_that_the_client_asks(
    tiny_bert: Callable[..., Any], save_model: Callable[..., Path], data_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    encoder = save_model(tiny_bert(initializer_range=0.05), tmp_path / "encoder")
    changes = {'"bert-base-uncased"': repr(str(encoder)), "8080": "0", "max_drop=2.0": "max_drop=50.0"}
    script = changed("own_data.py", tmp_path, FINETUNE | DISTILL | changes)
    client = changed("call_service.py", tmp_path, {})
    command, environment = [sys.executable, str(script), str(data_dir)], os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if ready := re.search(r"^serving .* POST (http://[\d.]+:\d+)/predict", line):
                    break
            assert ready, lines
            assert re.fullmatch(r"0\.\d MB, dev accuracy \d+\.\d%\n", lines[-2])
            address = ready[1]
            answers = run(client, monkeypatch, capsys, address, "great film", "bad plot")
            assert [line.split()[0] for line in answers] == ["positive", "negative"]
            with pytest.raises(SystemExit, match="`inputs` cannot be empty"):
                run(client, monkeypatch, capsys, address)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_a_hugging_face_classifier_is_the_teacher(
    tiny_teacher: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plain = tmp_path / "classifier"
    shutil.copytree(tiny_teacher, plain, ignore=shutil.ignore_patterns("bundle.json"))
    script = changed("hugging_face_teacher.py", tmp_path, DISTILL)
    lines = run(script, monkeypatch, capsys, plain, data_dir)
    assert [line.split(":")[0] for line in lines[:2]] == ["the student", "on the rows that it has learnt from"]
    assert re.fullmatch(r"(positive|negative) [01]\.\d{3}  a dull plot", lines[-1])
    with pytest.raises(SystemExit, match="is there already, made by the same options"):
        run(script, monkeypatch, capsys, plain, data_dir)


def test_multi_label(
    encoder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = changed("multi_label.py", tmp_path, FINETUNE | DISTILL)
    lines = run(script, monkeypatch, capsys, encoder("multi_label.py"))
    assert re.fullmatch(r"F1 \d+\.\d% of food, price, service", lines[0])
    assert set(ast.literal_eval(lines[1])) <= {"food", "price", "service"}


def test_sentence_pairs(
    encoder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = changed("sentence_pairs.py", tmp_path, FINETUNE | DISTILL)
    lines = run(script, monkeypatch, capsys, encoder("sentence_pairs.py"))
    assert re.fullmatch(r"accuracy \d+\.\d%", lines[0])
    assert [line.split(":")[0] for line in lines[1:]] == ["somebody is singing", "nobody is singing"]
    assert all(re.search(r": (entailment|neutral|contradiction) [01]\.\d{3}$", line) for line in lines[1:])
