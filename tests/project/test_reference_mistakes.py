"""The known mistakes of the reference code, each with a test that fails where it is made.

A resume that loads weights only: tests/test_resume.py.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.project.test_layers import FILES, module_name
from tests.support.data import rows
from tests.support.models import own_answers
from toolkit import config
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig, EvaluateConfig
from toolkit.data.datasets import load_split
from toolkit.distillation.distill import run_distill
from toolkit.distillation.objectives import IntermediateObjective
from toolkit.errors import ToolkitError
from toolkit.inference.evaluate import run_evaluate
from toolkit.models.student import layer_map
from toolkit.tasks import TASKS, get_task
from toolkit.training.dataset import EncodedDataset

CONFIGS = [getattr(config, name) for name in config.__all__ if name.endswith("Config") and name != "Config"]


def unread(names: set[str], sources: list[str]) -> set[str]:
    """Names that no expression reads, as an attribute or by key."""
    read = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            read.add(node.attr)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            read.add(node.slice.value)
    return names - read


def test_options_and_settings_of_a_task_that_nothing_reads() -> None:
    sources = [
        path.read_text(encoding="utf-8") for path in FILES if not module_name(path).startswith("toolkit.config.base")
    ]
    options = {field.name for kind in CONFIGS for field in dataclasses.fields(kind)}
    settings = {field.name for field in dataclasses.fields(TASKS["sst2"])}
    assert unread(options | settings, sources) == set()
    assert unread({"seed", "colour"}, sources) == {"colour"}


def write_tsv(path: Path, table: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows(table)


def test_a_tasks_own_epochs_and_length_are_used(tiny_bert: Any, save_model: Any, tmp_path: Path) -> None:
    """CoLA: 50 epochs of stage a, 3 of stage b, 64 tokens."""
    labels = {0: "unacceptable", 1: "acceptable"}
    teacher = tiny_bert(id2label=labels, label2id={b: a for a, b in labels.items()}, max_position_embeddings=128)
    save_model(teacher, tmp_path / "teacher")
    (tmp_path / "data").mkdir()
    for name, count in (("train", 8), ("dev", 16)):
        table = [["id", str(label), "", text] for text, label in rows(count, seed=1)]
        write_tsv(tmp_path / "data" / f"{name}.tsv", table)
    run_distill(DistillConfig(
        str(tmp_path / "teacher"), "cola", str(tmp_path / "s"), data=str(tmp_path / "data"), student="2/16/32/4",
        allow_weak_teacher=True, init="random",
    ))  # fmt: skip
    bundle = open_bundle(tmp_path / "s")
    assert {name: stage["steps"] for name, stage in bundle.manifest["stages"].items()} == {
        "intermediate": 50, "prediction": 3,
    }  # fmt: skip
    assert bundle.max_length == 64


def test_a_teacher_with_dropout_on(
    tiny_bert: Any, save_model: Any, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tiny_bert(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5), tmp_path / "teacher")
    forward, seen = IntermediateObjective.forward, []

    def watched(self: IntermediateObjective, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        (teacher,) = self._teacher
        seen.append((self.training, self.student.training, any(module.training for module in teacher.modules())))
        return forward(self, batch)

    monkeypatch.setattr(IntermediateObjective, "forward", watched)
    run_distill(DistillConfig(
        str(tmp_path / "teacher"), "auto", str(tmp_path / "s"), data=str(data_dir), student="2/16/32/4",
        intermediate_epochs=1, prediction_epochs=0, allow_weak_teacher=True,
    ))  # fmt: skip
    assert Counter(seen) == {(True, True, False): 8}


def test_the_last_partial_batch_dropped(
    tiny_bert: Any, save_model: Any, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tiny_bert(), tmp_path / "teacher")
    collate, seen = EncodedDataset.collate, Counter[int]()

    def watched(self: EncodedDataset, chosen: Any) -> dict[str, torch.Tensor]:
        seen.update(int(row) for row in chosen)
        return collate(self, chosen)

    monkeypatch.setattr(EncodedDataset, "collate", watched)
    run_distill(DistillConfig(
        str(tmp_path / "teacher"), "auto", str(tmp_path / "s"), data=str(data_dir), student="2/16/32/4", max_rows=70,
        intermediate_epochs=2, prediction_epochs=1, allow_weak_teacher=True,
    ))  # fmt: skip
    assert seen == dict.fromkeys(range(70), 3)  # 70 rows, 32 at a time, three epochs


@pytest.mark.parametrize(("teacher", "student"), [(12, 5), (6, 4), (7, 2), (3, 2)])
def test_layers_that_must_divide(teacher: int, student: int) -> None:
    found = layer_map("uniform", teacher, student)
    assert [abs(g - teacher * m / student) <= 0.5 for m, g in enumerate(found, start=1)] == [True] * student


def test_selection_on_the_wrong_dev_set(tiny_bert: Any, save_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """MNLI: rows of train choose the best step, matched is reported, whatever mismatched says."""
    labels = dict(enumerate(get_task("mnli").labels))
    teacher = tiny_bert(id2label=labels, label2id={name: i for i, name in labels.items()})
    texts = [text for text, _ in rows(144, seed=3)]
    answers = own_answers(teacher, tokenizer, texts, texts).argmax(-1)
    save_model(teacher, tmp_path / "teacher")
    data = tmp_path / "data"
    data.mkdir()
    for part, (name, turn) in enumerate((("train", 0), ("dev_matched", 0), ("dev_mismatched", 1))):
        chosen = range(48 * part, 48 * part + 48)
        lines = [[texts[i], texts[i], labels[int(answers[i] + turn) % 3]] for i in chosen]
        write_tsv(data / f"{name}.tsv", [["sentence1", "sentence2", "gold_label"], *lines])
    run_distill(DistillConfig(
        str(tmp_path / "teacher"), "mnli", str(tmp_path / "s"), data=str(data), student="2/16/32/4", max_length=40,
        intermediate_epochs=0, prediction_epochs=4, prediction_lr=5e-3, selection_rows=16,
    ))  # fmt: skip
    manifest = open_bundle(tmp_path / "s").manifest
    matched, mismatched = (load_split(get_task("mnli"), name, data) for name in ("dev", "dev_mismatched"))
    assert manifest["data"]["dev"] == matched.digest != mismatched.digest
    stage = manifest["stages"]["prediction"]
    assert stage["best_metric"] == max(row["selection"] for row in stage["history"] if "selection" in row)
    assert (manifest["split"], manifest["selection"]) == ("dev", {"split": "train", "rows": 16})
    assert run_evaluate(EvaluateConfig(str(tmp_path / "s"), data=str(data))).metrics == manifest["metrics"]
    other = run_evaluate(EvaluateConfig(str(tmp_path / "s"), data=str(data), split="dev_mismatched")).metrics
    assert other != manifest["metrics"]


def test_labels_in_another_order_than_the_teachers(
    tiny_bert: Any, save_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    """As MNLI's, which stand in another order in many models: accuracy some 10 %, and nothing else looks wrong."""
    names = ["class0", "class1", "class2"]
    teacher = tiny_bert(id2label=dict(enumerate(names)))
    texts = [text for text, _ in rows(300, seed=3)]
    answers = own_answers(teacher, tokenizer, texts).argmax(-1)
    (tmp_path / "data").mkdir()
    for name, part in (("train", slice(0, 60)), ("dev", slice(60, 300))):
        lines = [{"text": text, "label": names[i]} for text, i in zip(texts[part], answers[part], strict=True)]
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def distil(path: Path) -> dict[str, Any]:
        return run_distill(DistillConfig(
            str(path), "auto", str(tmp_path / "s"), data=str(tmp_path / "data"), student="2/16/32/4",
            intermediate_epochs=0, prediction_epochs=1, allow_weak_teacher=True, overwrite=True,
        )).manifest  # fmt: skip

    assert distil(save_model(teacher, tmp_path / "right"))["teacher_metrics"]["accuracy"] == 1.0
    with torch.no_grad():
        for parameter in (teacher.classifier.weight, teacher.classifier.bias):
            parameter.copy_(parameter[[2, 0, 1]])
    with pytest.raises(ToolkitError, match="outputs read as class2, class0, class1"):
        distil(save_model(teacher, tmp_path / "turned"))


def test_an_untuned_teacher_accepted_in_silence(
    tiny_bert: Any, save_model: Any, data_dir: Path, tmp_path: Path
) -> None:
    model = tiny_bert()
    with torch.no_grad():
        model.classifier.weight.zero_()
    save_model(model, tmp_path / "teacher")
    with pytest.raises(ToolkitError, match="has learnt nothing of "):
        run_distill(DistillConfig(
            str(tmp_path / "teacher"), "auto", str(tmp_path / "s"), data=str(data_dir), student="2/16/32/4"
        ))  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["teacher"]


def test_the_watching_tests_can_fail() -> None:
    """What `unread` and the row count look for is there to be found."""
    assert unread({"a"}, ["x.a = 1"]) == {"a"}
    assert unread({"a"}, ["y = x.a"]) == set()
    assert Counter(np.array([1, 1]).tolist()) != dict.fromkeys(range(2), 1)
