"""Metadata name what came from the hub, by its names there, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from toolkit.bundle.card_metadata import dataset, hub_models, is_student, metadata, model_name

COMMIT = "0" * 40
ENCODER = {"kind": "model", "name": "google/bert_uncased_L-2_H-128_A-2", "revision": COMMIT}
LOCAL = {"kind": "model", "name": "/home/me/secret/bert", "weights_sha256": "1" * 64}


def manifest(name: str = "sst2", source: str | None = None, **entries: Any) -> Any:
    task = {"name": name, "kind": "classification", "labels": ["a", "b"], "metrics": ["accuracy"], "pair": False}
    return {"kind": "teacher", "task": task, "precision": "fp32", "config": {"data": source}, "metrics": {}} | entries


def read(record: Any, family: str | None = "bert") -> Any:
    return ModelCard(metadata(record, family)).data


def test_a_student_of_glue() -> None:
    teacher = {"kind": "teacher", "name": "runs/teacher", "made_from": {"encoder": ENCODER}}
    data = read(
        manifest(
            kind="student", made_from={"teacher": teacher}, split="dev", metrics={"accuracy": 0.00001},
            data={"dev": "d" * 64, "train": "t" * 64},
        )
    )  # fmt: skip
    assert (data.language, data.library_name, data.pipeline_tag) == ("en", "transformers", "text-classification")
    assert data.base_model == [ENCODER["name"]]
    assert data.datasets == ["nyu-mll/glue"]
    assert data.tags == ["bert", "student", "fp32", "knowledge-distillation", "tinybert-toolkit"]
    (result,) = data.eval_results
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("nyu-mll/glue", "sst2", "dev")
    assert result.dataset_args == {"sha256": "d" * 64}
    assert result.metric_value == pytest.approx(1e-5), "a small number stays a number in YAML"


def test_correlations_have_the_hub_s_names() -> None:
    data = read(manifest("stsb", metrics={"spearman": 0.5, "pearson": 0.25}))
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("spearmanr", 0.5), ("pearsonr", 0.25),
    ]  # fmt: skip


def test_one_s_own_data_and_models_are_not_said_to_be_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    data = read(manifest("My Reviews", "/home/me/reviews", metrics={"accuracy": 0.5}, made_from={"encoder": LOCAL}))
    assert (data.language, data.base_model, data.datasets) == (None, None, None)
    assert data.eval_results[0].dataset_type == "my-reviews"
    assert "secret" not in data.to_yaml()
    for own in (f"hub:{tmp_path / 'mine'}", "hub:./mine", "rows.csv"):
        stated = dataset(manifest("topics", own))
        assert stated is not None
        assert not stated.on_hub
    hub = dataset(manifest("topics", "hub:some/topics:plain"))
    assert hub is not None
    assert (hub.type, hub.config, hub.on_hub) == ("some/topics", "plain", True)
    embedded = dataset(manifest("rotten-tomatoes"))
    assert embedded is not None
    assert not embedded.on_hub


def test_a_general_student_is_an_encoder() -> None:
    data = read(manifest(task=None, kind="general", made_from={"teacher": ENCODER}), None)
    assert (data.pipeline_tag, data.language, data.metrics, data.eval_results) == (
        "feature-extraction", None, None, None,
    )  # fmt: skip
    assert data.tags == ["general", "fp32", "knowledge-distillation", "tinybert-toolkit"]


def test_origins_are_followed_to_the_end() -> None:
    chain = {"student": {"kind": "student", "name": "s", "made_from": {"teacher": ENCODER, "start": LOCAL}}}
    export = manifest(kind="onnx", precision="int8", made_from=chain)
    assert list(hub_models(export)) == [ENCODER["name"]]
    assert is_student(export)
    assert not is_student(manifest(made_from={"encoder": ENCODER}))
    assert read(export).library_name == "onnx"
    assert model_name(export) == "sst2-onnx-int8"
    assert model_name(manifest("日本")) == "own-data-teacher-fp32"
