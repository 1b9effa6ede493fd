"""Teacher and student end to end through the real commands, on small models; and every teacher that must be refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.support.data import rows
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig, FinetuneConfig
from toolkit.data.tokenization import EncodedTexts
from toolkit.distillation.data import TeacherLogitsDataset
from toolkit.distillation.distill import run_distill
from toolkit.distillation.objectives import PredictionObjective
from toolkit.distillation.seeds import run_seeds
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.training.finetune import run_finetune

SMALL = {"student": "2/16/32/4", "intermediate_epochs": 6, "intermediate_lr": 5e-3, "prediction_epochs": 3}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Any, save_model: Callable[..., Path]) -> Path:
    """A plain Hugging Face directory of an untrained encoder."""
    return save_model(tiny_bert(initializer_range=0.05), tmp_path_factory.mktemp("encoder") / "plain")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, encoder: Path, data_dir: Path) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    run_finetune(FinetuneConfig(str(encoder), "auto", str(out), data=str(data_dir), epochs=6, lr=5e-3))
    return out


def distill(teacher: Path, data_dir: Path, out: Path, **changes: Any) -> dict[str, Any]:
    settings = {**SMALL, "prediction_lr": 2e-3, **changes}
    run_distill(DistillConfig(str(teacher), "auto", str(out), data=str(data_dir), **settings))
    return open_bundle(out).manifest


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
    with pytest.raises(ToolkitError, match="does not hold this student"):
        distill(teacher, data_dir, tmp_path / "third", **again, student="2/24/32/4")


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"loss": "prediction=0"}, ["intermediate"]),
        ({"loss": "attention=0,hidden=0,embedding=0"}, ["prediction"]),
        ({"objective": "prediction"}, ["prediction"]),
        ({"shared_projection": True, "loss": "attention=0"}, ["intermediate", "prediction"]),
    ],
)
def test_losses_can_be_switched_off(
    changes: dict[str, Any], stages: list[str], teacher: Path, data_dir: Path, tmp_path: Path
) -> None:
    manifest = distill(teacher, data_dir, tmp_path / "s", intermediate_epochs=1, prediction_epochs=1, **changes)
    assert list(manifest["stages"]) == stages


def test_unlabelled_text_is_learnt_from_too(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"{text}\n" for text, _ in rows(100, seed=9)))
    plain = distill(teacher, data_dir, tmp_path / "a", intermediate_epochs=1, prediction_epochs=1)
    fuller = distill(
        teacher, data_dir, tmp_path / "b", intermediate_epochs=1, prediction_epochs=1, unlabelled=str(more)
    )
    steps = [[m["stages"][name]["steps"] for name in ("intermediate", "prediction")] for m in (plain, fuller)]
    assert steps == [[8, 8], [12, 12]]  # 256 rows, then 356, 32 a step
    assert set(fuller["data"]) == {"train", "dev", "unlabelled"}
    more.write_text("  \n")
    with pytest.raises(ToolkitError, match="no such file"):
        distill(teacher, data_dir, tmp_path / "c", unlabelled=str(tmp_path / "gone.txt"))


def test_defaults_come_from_the_task_and_the_initialisation() -> None:
    projected = DistillConfig("t", "sst2", "o").resolved()
    assert (projected.intermediate_epochs, projected.prediction_epochs) == (20, 3)
    assert projected.student == "4/312/1200/12"
    assert (projected.intermediate_lr, projected.accumulation) == (2e-4, 1)
    assert DistillConfig("t", "sst2", "o", init="random").resolved().intermediate_lr == 5e-5
    assert DistillConfig("t", "cola", "o").resolved().intermediate_epochs == 50
    assert DistillConfig("t", "cola", "o", intermediate_epochs=0).resolved().intermediate_epochs == 0
    general = DistillConfig("t", None, "o", general=True, corpus=("c.txt",)).resolved()
    assert (general.intermediate_epochs, general.intermediate_lr) == (3, 5e-5)
    assert general.batch_size * general.accumulation == 256
    assert general.resolved() == general


def test_labels_are_learnt_where_there_are_any(
    teacher: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"{text}\n" for text, _ in rows(100, seed=9)))
    manifest = distill(
        teacher, data_dir, tmp_path / "s", objective="prediction", loss="prediction=0,label=2", unlabelled=str(more),
        init="random", prediction_lr=5e-3, prediction_epochs=8,
    )  # fmt: skip
    assert list(manifest["stages"]) == ["prediction"]
    names = {name for row in manifest["stages"]["prediction"]["history"] for name in row}
    assert names == {"step", "dev", "label"}
    assert manifest["metrics"]["accuracy"] > 0.9
    assert "the label loss sees 256 of 356 texts: the unlabelled have none" in capsys.readouterr().out


def test_an_unlabelled_row_counts_nothing_in_the_label_loss(tiny_bert: Any) -> None:
    student = tiny_bert()
    encoded = EncodedTexts(
        [np.arange(5, 9 + i) for i in range(4)], [np.zeros(4 + i, int) for i in range(4)], np.zeros(4), 0
    )
    rows_ = TeacherLogitsDataset(encoded, np.zeros((4, 2), np.float32), np.array([1, 0]))
    objective = PredictionObjective(student, "classification", 1.0, prediction=0.0, label=3.0)
    with torch.no_grad():
        some, none, first = (float(objective(rows_.collate(rows))["label"]) for rows in ([0, 1, 2, 3], [2, 3], [0]))
        second = float(objective(rows_.collate([1]))["label"])
    assert none == 0.0
    assert some == pytest.approx((first + second) / 4, rel=1e-5)


def test_a_loss_that_is_not_finite_leaves_nothing_behind(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    distill(teacher, data_dir, tmp_path / "s", intermediate_epochs=0, prediction_epochs=1)
    before = open_bundle(tmp_path / "s").digest
    with pytest.raises(ToolkitError, match=r"intermediate: the .*hidden.* loss is not finite at step") as caught:
        distill(teacher, data_dir, tmp_path / "s", intermediate_lr=1e30, intermediate_epochs=3)
    assert "lower learning rate" in caught.value.fix
    assert open_bundle(tmp_path / "s").digest == before  # the earlier student is still there, whole


def test_seeds_run_apart_and_are_summed_up(
    teacher: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DistillConfig(
        str(teacher), "auto", str(tmp_path / "many"), data=str(data_dir), student="2/16/32/4", init="random",
        intermediate_epochs=0, prediction_epochs=1, prediction_lr=2e-3, seeds="1,2",
    )  # fmt: skip
    summary = run_seeds(config)
    bundles = [open_bundle(tmp_path / "many" / f"seed-{seed}") for seed in (1, 2)]
    scores = [100 * bundle.manifest["metrics"]["accuracy"] for bundle in bundles]
    assert [row["student"] for row in summary["seeds"]] == scores
    assert summary["mean"]["student"] == pytest.approx(sum(scores) / 2)
    assert summary["deviation"]["student"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    assert summary["deviation"]["teacher"] == 0.0
    assert json.loads((tmp_path / "many" / "summary.json").read_text()) == summary
    capsys.readouterr()
    more = run_seeds(replace(config, seeds="1,2,3"))
    told = capsys.readouterr().out
    assert "seed 1: " in told.split("== seed 2")[0]
    assert told.count("is there already") == 2
    assert more["seeds"][:2] == summary["seeds"]
    capsys.readouterr()
    run_seeds(replace(config, seeds="1", prediction_lr=1e-3))  # made otherwise: made again
    assert "is there already" not in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ToolkitError, match=r"holds something else than seeds: thesis\.txt"):
        run_seeds(replace(config, out=str(tmp_path / "mine")))


class TestRefused:
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
        with pytest.raises(ToolkitError, match="cannot open") as caught:
            distill(tmp_path / "nowhere", data_dir, tmp_path / "s")
        assert "config.json" in caught.value.expected

    def test_a_length_without_positions(self, teacher: Path, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError, match="positions for 64 tokens"):
            distill(teacher, data_dir, tmp_path / "s", max_length=65)

    def test_a_missing_column(self, teacher: Path, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for split in ("train", "dev"):
            (tmp_path / "data" / f"{split}.csv").write_text("sentence,label\na,b\n")
        with pytest.raises(ToolkitError, match="no column 'text'"):
            distill(teacher, tmp_path / "data", tmp_path / "s")

    def test_all_faults_of_the_options_at_once(self, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError) as caught:
            distill(tmp_path, data_dir, tmp_path / "s", batch_size=0, temperature=0.0, layer_map="sideways")
        assert "3 problems" in caught.value.problem

    @staticmethod
    def changed(teacher: Path, tmp_path: Path, changes: dict[str, Any]) -> Path:
        """The teacher as a plain directory with another config."""
        copy = tmp_path / "changed"
        shutil.copytree(teacher, copy)
        (copy / "bundle.json").unlink()
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, **changes}))
        return copy
