"""The command end to end on a small encoder: it learns, keeps its best epoch, and refuses what it cannot use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.data import rows
from toolkit.bundle.format import open_bundle
from toolkit.config import EvaluateConfig, FinetuneConfig
from toolkit.errors import ToolkitError
from toolkit.inference.evaluate import run_evaluate
from toolkit.inference.predictor import open_predictor
from toolkit.training.finetune import run_finetune


def test_finetune_learns_and_keeps_the_best_epoch(teacher: Path, data_dir: Path) -> None:
    manifest = open_bundle(teacher).manifest
    assert manifest["metrics"]["accuracy"] > 0.95
    stage = manifest["stages"]["finetune"]
    metrics = [row["selection"] for row in stage["history"] if "selection" in row]
    assert len(metrics) == 6
    assert stage["best_metric"] == max(metrics)
    assert run_evaluate(EvaluateConfig(str(teacher), data=str(data_dir))).metrics == manifest["metrics"]
    assert manifest["config"]["lr"] == 5e-3
    assert set(manifest["data"]) == {"train", "selection", "dev"}
    assert (manifest["split"], manifest["selection"]) == ("dev", {"split": "train", "rows": 64})


def test_the_split_that_is_reported_chooses_nothing(encoder: Path, data_dir: Path, tmp_path: Path) -> None:
    """Other labels of that split change its scores and no weight; those of dev, where it chooses, change both."""
    train, few = ((data_dir / f"{split}.csv").read_text() for split in ("train", "dev"))
    flipped = few.replace("negative", "?").replace("positive", "negative").replace("?", "positive")

    def teacher(name: str, **files: str) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        for split, text in {"train": train, **files}.items():
            (folder / f"{split}.csv").write_text(text)
        options: dict[str, Any] = {"data": str(folder), "epochs": 3, "lr": 5e-3}
        return run_finetune(FinetuneConfig(str(encoder), "auto", str(folder / "out"), **options)).manifest

    def weights(manifest: Any) -> str:
        return str(manifest["files"]["model.safetensors"]["sha256"])

    plain, turned = teacher("a", dev=few), teacher("b", dev=flipped)
    assert weights(plain) == weights(turned)
    assert plain["metrics"]["accuracy"] == pytest.approx(1 - turned["metrics"]["accuracy"])
    assert (plain["split"], plain["selection"]) == ("dev", {"split": "train", "rows": 64})
    both, test_turned, dev_turned = (
        teacher("c", dev=few, test=few), teacher("d", dev=few, test=flipped), teacher("e", dev=flipped, test=few),
    )  # fmt: skip
    assert (both["split"], both["selection"]) == ("test", {"split": "dev", "rows": 96})
    assert weights(both) == weights(test_turned)
    assert both["metrics"]["accuracy"] == pytest.approx(1 - test_turned["metrics"]["accuracy"])
    assert both["dev_scores"] == test_turned["dev_scores"] == {name: both[name] for name in ("metrics", "by_class")}
    best = [manifest["stages"]["finetune"]["best_step"] for manifest in (both, dev_turned)]
    assert best[0] != best[1], "dev chooses, so its labels do"


def test_without_rows_that_choose_the_last_step_is_kept(encoder: Path, data_dir: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": str(data_dir), "epochs": 2, "max_rows": 40}
    out = FinetuneConfig(str(encoder), "auto", str(tmp_path / "t"), selection_rows=0, **options)
    manifest = run_finetune(out).manifest
    assert manifest["selection"] is None
    assert manifest["stages"]["finetune"]["best_step"] is None
    assert "selection" not in manifest["data"]
    with pytest.raises(ToolkitError, match="--patience 2 with --selection-rows 0"):
        run_finetune(FinetuneConfig(str(encoder), "auto", str(tmp_path / "u"), selection_rows=0, patience=2, **options))


def test_length_and_rate_follow_the_data_and_stand_in_the_bundle(
    encoder: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task of the table keeps its three epochs; 40 rows get the most there are, and words are a yardstick."""
    out = tmp_path / "teacher"
    config = FinetuneConfig(str(encoder), "auto", str(out), data=str(data_dir), max_rows=40, name="moods")
    run_finetune(config)
    manifest = open_bundle(out).manifest
    stored = {name: manifest["config"][name] for name in ("epochs", "lr", "patience")}
    assert stored == {"epochs": 20, "lr": 2e-4, "patience": 3}
    assert manifest["task"]["name"] == "moods"
    shown = capsys.readouterr().out
    assert "20 epochs at a learning rate of 0.0002, ending after 3 without a new best" in shown
    assert re.search(r"dev accuracy [\d.]+ \(tf-idf and logistic regression: [\d.]+; always the same answer: ", shown)
    with pytest.raises(ToolkitError, match="made by the same options"):
        run_finetune(config)
    assert FinetuneConfig("m", "sst2", "o").resolved() == FinetuneConfig("m", "sst2", "o", epochs=3, lr=5e-5)


def test_max_rows_and_patience_shorten_it(encoder: Path, data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "teacher"
    options = {"data": str(data_dir), "epochs": 8, "lr": 1e-12, "max_rows": 40, "batch_size": 16, "patience": 2}
    run_finetune(FinetuneConfig(str(encoder), "auto", str(out), **options))
    stage = open_bundle(out).manifest["stages"]["finetune"]
    assert (stage["best_step"], stage["steps"]) == (3, 9)  # three steps an epoch; nothing is learnt after the first
    assert {path.name for path in tmp_path.iterdir()} == {"teacher"}  # no checkpoint is left


def test_a_task_of_three_labels_gets_a_new_head(encoder: Path, tmp_path: Path) -> None:
    names = ("left", "middle", "right")
    for split, seed in (("train", 1), ("dev", 2)):
        texts = [text for text, _ in rows(24, seed)]
        lines = [f"{text},{names[i % 3]}" for i, text in enumerate(texts)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    run_finetune(FinetuneConfig(str(encoder), "auto", str(tmp_path / "out"), data=str(tmp_path), epochs=1))
    predictor = open_predictor(tmp_path / "out")
    assert predictor.task.labels == names
    assert predictor.predict(["a good film"]).shape == (1, 3)


def test_an_output_that_is_no_bundle_is_refused_before_training(encoder: Path, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(ToolkitError, match="exists and is not a bundle"):
        run_finetune(FinetuneConfig(str(encoder), "auto", str(tmp_path), data=str(data_dir)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_model_that_nothing_later_can_use_is_refused_before_training(
    save_model: Callable[..., Path], data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import XLNetConfig, XLNetForSequenceClassification

    model = XLNetForSequenceClassification(XLNetConfig(vocab_size=160, d_model=24, n_layer=2, n_head=4, d_inner=48))
    folder = save_model(model, tmp_path / "xlnet")
    with pytest.raises(ToolkitError, match=r"XLNetForSequenceClassification.* answers by its padding"):
        run_finetune(FinetuneConfig(str(folder), "auto", str(tmp_path / "out"), data=str(data_dir)))
    assert not (tmp_path / "out").exists()
    assert "fine-tuning" not in capsys.readouterr().out


def test_it_says_what_is_cut(encoder: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_finetune(FinetuneConfig(str(encoder), "auto", str(tmp_path / "t"), data=str(data_dir), epochs=1, max_length=5))
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"train: \d+\.\d % of the texts are longer than 5 tokens and are cut", said)
    assert "dev: " in said
