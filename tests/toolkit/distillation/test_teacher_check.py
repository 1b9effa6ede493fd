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
from toolkit.errors import ToolkitError


class TestTeacherRefused:
    def test_an_untuned_teacher(self, encoder: Path, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError, match="has learnt nothing of auto") as caught:
            distill(encoder, data_dir, tmp_path / "s")
        assert "toolkit finetune" in caught.value.fix
        assert not list(tmp_path.iterdir())
        manifest = distill(
            encoder, data_dir, tmp_path / "s", allow_weak_teacher=True, intermediate_epochs=1, prediction_epochs=1
        )
        assert manifest["config"]["allow_weak_teacher"]

    def test_label_names_in_another_order(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        swapped = self.changed(teacher, tmp_path, {"id2label": {"0": "positive", "1": "negative"}})
        with pytest.raises(ToolkitError, match="stand in another order: positive, negative"):
            distill(swapped, data_dir, tmp_path / "s")

    def test_labels_swapped_behind_their_names(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        model = AutoModelForSequenceClassification.from_pretrained(teacher)
        with torch.no_grad():
            model.classifier.weight.copy_(model.classifier.weight.flip(0))
            model.classifier.bias.copy_(model.classifier.bias.flip(0))
        swapped = self.changed(teacher, tmp_path, {})
        model.save_pretrained(swapped)
        with pytest.raises(ToolkitError, match="outputs read as positive, negative"):
            distill(swapped, data_dir, tmp_path / "s", allow_weak_teacher=True)

    def test_another_number_of_labels(self, tiny_bert: Any, save_model: Any, data_dir: Path, tmp_path: Path) -> None:
        three = tiny_bert(id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
        with pytest.raises(ToolkitError, match="has 3 outputs"):
            distill(save_model(three, tmp_path / "three"), data_dir, tmp_path / "s")

    @staticmethod
    def changed(teacher: Path, tmp_path: Path, changes: dict[str, Any]) -> Path:
        """The teacher as a plain directory with another config."""
        copy = tmp_path / "changed"
        shutil.copytree(teacher, copy)
        (copy / "bundle.json").unlink()
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, **changes}))
        return copy
