"""Teachers that do not know the task are refused before training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.support.distillation import distill
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig
from toolkit.distillation.distill import run_distill
from toolkit.errors import ToolkitError


class TestTeacherRefused:
    def test_an_untuned_teacher(self, encoder: Path, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError, match="has learnt nothing of ") as caught:
            distill(encoder, data_dir, tmp_path / "s")
        assert "toolkit finetune" in caught.value.fix
        assert not list(tmp_path.iterdir())
        manifest = distill(
            encoder, data_dir, tmp_path / "s", allow_weak_teacher=True, intermediate_epochs=1, prediction_epochs=1
        )
        assert manifest["config"]["allow_weak_teacher"]

    def test_names_that_dev_contradicts(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        swapped = self.changed(teacher, tmp_path, {"id2label": {"0": "positive", "1": "negative"}})
        with pytest.raises(ToolkitError, match="stand in another order"):
            distill(swapped, data_dir, tmp_path / "s", allow_weak_teacher=True)

    def test_outputs_without_names_in_another_order(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        swapped = self.flipped(teacher, tmp_path, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
        with pytest.raises(ToolkitError, match="outputs read as positive, negative") as caught:
            distill(swapped, data_dir, tmp_path / "s", allow_weak_teacher=True)
        assert "--match-labels" in caught.value.fix

    def test_another_number_of_labels(self, tiny_bert: Any, save_model: Any, data_dir: Path, tmp_path: Path) -> None:
        three = tiny_bert(id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
        with pytest.raises(ToolkitError, match="has 3 outputs"):
            distill(save_model(three, tmp_path / "three"), data_dir, tmp_path / "s")

    @staticmethod
    def flipped(teacher: Path, tmp_path: Path, changes: dict[str, Any]) -> Path:
        """The teacher as a plain directory with its two outputs exchanged and another config."""
        model = AutoModelForSequenceClassification.from_pretrained(teacher)
        with torch.no_grad():
            model.classifier.weight.copy_(model.classifier.weight.flip(0))
            model.classifier.bias.copy_(model.classifier.bias.flip(0))
        copy = TestTeacherRefused.changed(teacher, tmp_path, {})
        model.save_pretrained(copy)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, **changes}))
        return copy

    @staticmethod
    def changed(teacher: Path, tmp_path: Path, changes: dict[str, Any]) -> Path:
        """The teacher as a plain directory with another config."""
        copy = tmp_path / "changed"
        shutil.copytree(teacher, copy)
        (copy / "bundle.json").unlink()
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, **changes}))
        return copy


SHORT = {"student": "2/16/32/4", "intermediate_epochs": 0, "prediction_epochs": 1}


class TestTeacherMatched:
    """Teachers whose outputs stand in another order answer as they did before."""

    def check(self, teacher: Path, copy: Path, data_dir: Path, out: Path, **options: Any) -> dict[str, Any]:
        manifest = distill(copy, data_dir, out, **SHORT, **options)
        assert manifest["teacher_metrics"] == open_bundle(teacher).manifest["metrics"]
        return manifest

    def test_names_of_a_task_of_the_table_decide(
        self, teacher: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = TestTeacherRefused.flipped(teacher, tmp_path, {"id2label": {"0": "POSITIVE", "1": "Negative"}})
        (tmp_path / "sst2").mkdir()
        for split in ("train", "dev"):
            rows = (data_dir / f"{split}.csv").read_text().replace(",", "\t").replace("text", "sentence")
            (tmp_path / "sst2" / f"{split}.tsv").write_text(rows)
        run_distill(DistillConfig(str(copy), "sst2", str(tmp_path / "s"), data=str(tmp_path / "sst2"), **SHORT))  # type: ignore[arg-type]
        manifest = open_bundle(tmp_path / "s").manifest
        accuracy = open_bundle(teacher).manifest["metrics"]["accuracy"]
        assert manifest["teacher_metrics"]["accuracy"] == accuracy
        assert manifest["task"]["labels"] == ["negative", "positive"]
        assert "are POSITIVE, Negative: matched with negative, positive by name" in capsys.readouterr().out

    def test_a_folder_s_labels_stand_in_the_teacher_s_order(
        self, teacher: Path, data_dir: Path, tmp_path: Path
    ) -> None:
        copy = TestTeacherRefused.flipped(teacher, tmp_path, {"id2label": {"0": "positive", "1": "negative"}})
        manifest = distill(copy, data_dir, tmp_path / "s", **SHORT)
        assert manifest["task"]["labels"] == ["positive", "negative"]
        assert manifest["teacher_metrics"]["accuracy"] == open_bundle(teacher).manifest["metrics"]["accuracy"]

    def test_outputs_without_names_are_matched_by_dev(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        copy = TestTeacherRefused.flipped(teacher, tmp_path, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
        manifest = self.check(teacher, copy, data_dir, tmp_path / "s", match_labels=True)
        assert manifest["task"]["labels"] == ["negative", "positive"]
