"""Teacher and student end to end through the real commands, on small models; and inputs that must be refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.support.distillation import distill
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor


@pytest.mark.parametrize("init", ["teacher", "random"])
def test_a_student_learns_what_its_teacher_knows(init: str, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    manifest = distill(teacher, data_dir, tmp_path / "student", init=init, intermediate_epochs=12)
    assert manifest["metrics"]["accuracy"] >= 0.9
    assert manifest["teacher_metrics"] == open_bundle(teacher).manifest["metrics"]
    assert manifest["parent"] == open_bundle(teacher).digest
    assert manifest["layer_map"] == [2, 3]
    history = manifest["stages"]["intermediate"]["history"]
    assert set(history[0]) == {"step", "attention", "hidden", "embedding"}
    assert history[-1]["hidden"] < history[0]["hidden"]


def test_the_student_opens_in_hugging_face_with_the_same_answers(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    distill(teacher, data_dir, tmp_path / "s", intermediate_epochs=1)
    predictor = open_predictor(tmp_path / "s")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "s").eval()
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.num_hidden_layers == 2
    batch = predictor.encoder.encode(["a lovely film", "a dull plot that is bad"]).batch([0, 1])
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits
    torch.testing.assert_close(torch.from_numpy(predictor.runtime.run(batch)), logits)


def test_the_same_command_gives_the_same_student(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    files = [distill(teacher, data_dir, tmp_path / name, intermediate_epochs=1)["files"] for name in "ab"]
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]
    other = distill(teacher, data_dir, tmp_path / "c", intermediate_epochs=1, seed=7)["files"]
    assert other["model.safetensors"] != files[0]["model.safetensors"]


def test_a_directory_to_start_from(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    distill(teacher, data_dir, tmp_path / "first", intermediate_epochs=2)
    again = {"init": str(tmp_path / "first"), "intermediate_epochs": 0, "prediction_epochs": 1}
    manifest = distill(teacher, data_dir, tmp_path / "second", **again)
    assert list(manifest["stages"]) == ["prediction"]
    assert manifest["start_metrics"] == open_bundle(tmp_path / "first").manifest["metrics"]
    with pytest.raises(ToolkitError, match=r"a student of 2/24/32/4 cannot start from .* which is 2/16/32/4"):
        distill(teacher, data_dir, tmp_path / "third", **again, student="2/24/32/4")


def test_defaults_come_from_the_task_and_the_initialisation() -> None:
    projected = DistillConfig("t", "sst2", "o").resolved()
    assert (projected.intermediate_epochs, projected.prediction_epochs) == (3, 3)
    assert projected.student == "4/312/1200/12"
    assert (projected.intermediate_lr, projected.accumulation) == (2e-4, 1)
    drawn = DistillConfig("t", "cola", "o", init="random").resolved()
    assert (drawn.intermediate_epochs, drawn.intermediate_lr) == (50, 5e-5)
    of_a_model = DistillConfig("t", "cola", "o", init="dir").resolved()
    assert (of_a_model.intermediate_epochs, of_a_model.intermediate_lr) == (None, None)
    started = [of_a_model.started(projected=projected) for projected in (True, False)]
    assert [(config.intermediate_epochs, config.intermediate_lr) for config in started] == [(3, 2e-4), (50, 5e-5)]
    assert DistillConfig("t", "cola", "o", intermediate_epochs=0).resolved().intermediate_epochs == 0
    general = DistillConfig("t", None, "o", general=True, corpus=("c.txt",)).resolved()
    assert (general.intermediate_epochs, general.intermediate_lr) == (3, 5e-5)
    assert general.batch_size * general.accumulation == 256
    assert general.resolved() == general


def test_a_loss_that_is_not_finite_leaves_nothing_behind(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    distill(teacher, data_dir, tmp_path / "s", intermediate_epochs=0, prediction_epochs=1)
    before = open_bundle(tmp_path / "s").digest
    with pytest.raises(ToolkitError, match=r"intermediate: the .*hidden.* loss is not finite at step") as caught:
        distill(teacher, data_dir, tmp_path / "s", intermediate_lr=1e30, intermediate_epochs=3, overwrite=True)
    assert "lower learning rate" in caught.value.fix
    assert open_bundle(tmp_path / "s").digest == before  # the earlier student is still there, whole


class TestRefused:
    def test_other_heads(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError, match="the teacher has 4 attention heads, the student 2"):
            distill(teacher, data_dir, tmp_path / "s", student="2/16/32/2")

    def test_a_damaged_teacher(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(teacher, broken)
        weights = bytearray((broken / "model.safetensors").read_bytes())
        weights[-5] ^= 1
        (broken / "model.safetensors").write_bytes(weights)
        with pytest.raises(ToolkitError, match="SHA-256"):
            distill(broken, data_dir, tmp_path / "s")

    def test_a_corrupt_tokenizer(self, encoder: Path, data_dir: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(encoder, broken)
        (broken / "tokenizer.json").write_text('{"model": 1')
        with pytest.raises(ToolkitError, match="cannot open"):
            distill(broken, data_dir, tmp_path / "s")

    def test_no_such_model(self, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError, match="nowhere: no such directory") as caught:
            distill(tmp_path / "nowhere", data_dir, tmp_path / "s")
        assert "a name on the hub" in caught.value.expected

    def test_a_length_without_positions(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError, match="positions for 64 tokens"):
            distill(teacher, data_dir, tmp_path / "s", max_length=65)

    def test_a_missing_column(self, teacher: Path, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for split in ("train", "dev"):
            (tmp_path / "data" / f"{split}.csv").write_text("words,label\na,b\n")
        with pytest.raises(ToolkitError, match="no column 'text'"):
            distill(teacher, tmp_path / "data", tmp_path / "s")

    def test_all_faults_of_the_options_at_once(self, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError) as caught:
            distill(tmp_path, data_dir, tmp_path / "s", batch_size=0, temperature=0.0, layer_map="sideways")
        assert "3 problems" in caught.value.problem
