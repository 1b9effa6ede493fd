"""Models that are measured: what their files and configurations say of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.benchmarking.models import BenchModel, check_lengths, from_bundle, from_directory
from toolkit.benchmarking.random_models import Exporter
from toolkit.bundle.format import open_bundle
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import OnnxRuntime


def test_other_families_can_be_measured(tmp_path: Path, exporter: Exporter) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    settings = {"vocab_size": 160, "dim": 24, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
    model = DistilBertForSequenceClassification(DistilBertConfig(**settings, max_position_embeddings=64))
    model.save_pretrained(tmp_path / "model")
    measured = from_directory(tmp_path / "model", tmp_path, exporter)
    assert measured.parameters == model.num_parameters()
    assert (measured.hidden, measured.max_tokens, measured.vocabulary) == (24, 64, 160)
    assert measured.shape is None
    ids = np.arange(5, 15).reshape(2, 5)
    logits = OnnxRuntime(measured.onnx, threads=1).run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert logits.shape == (2, 2)


def named(family: str, **config: Any) -> BenchModel:
    values = {"max_position_embeddings": 514, **config, "model_type": family}
    return BenchModel("a", values, Path("none.onnx"))


def test_positions_before_the_first_serve_no_token() -> None:
    assert named("bert", pad_token_id=0).max_tokens == 514
    assert named("roberta", pad_token_id=1).max_tokens == 512
    with pytest.raises(ToolkitError, match=r"--length 513: a has positions for 512 tokens\ntry: --length 512"):
        check_lengths(513, [named("bert", pad_token_id=0), named("roberta", pad_token_id=1)])
    check_lengths(512, [named("bert", pad_token_id=0), named("roberta", pad_token_id=1)])


def test_known_architectures_have_names() -> None:
    from transformers import BertConfig

    shape = {"num_hidden_layers": 4, "hidden_size": 312, "intermediate_size": 1200, "num_attention_heads": 12}
    names = [named("bert", **BertConfig(**sizes).to_dict()).architecture for sizes in ({}, shape)]
    assert names == ["BERT-base", "tinybert4"]
    assert named("bert", **BertConfig(**shape | {"intermediate_size": 1201}).to_dict()).architecture == "4/312/1201/12"
    distilbert = {"n_layers": 6, "dim": 768, "hidden_dim": 3072, "n_heads": 12}
    assert named("distilbert", **distilbert).architecture == "distilbert 6/768/3072/12"
    assert named("t5").architecture == "t5 ?/?/?/?"
    assert named("mpnet", **shape).architecture == "mpnet 4/312/1200/12", "a report tells it from its 12-layer teacher"


def test_scores_come_from_the_manifest(tmp_path: Path, onnx_bundle: Path, exporter: Exporter) -> None:
    measured = from_bundle(open_bundle(onnx_bundle), tmp_path, exporter)
    assert (measured.score, measured.teacher_score, measured.fp32_score) == (0.75, 0.8, None)
    assert measured.bundle is not None
    assert measured.split == "dev"
    manifest = measured.bundle.manifest | {"gates": {"reference_metrics": {"accuracy": 0.77}}}
    assert replace(measured, bundle=replace(measured.bundle, manifest=manifest)).fp32_score == 0.77
    source = {"kind": "student", "name": "s", "split": "test", "metrics": {"accuracy": 0.78}}
    tested = manifest | {"split": "test", "made_from": {"student": source}}
    model = replace(measured, bundle=replace(measured.bundle, manifest=tested))
    assert (model.split, model.fp32_score) == ("test", 0.78), "the gates' score is dev's"
    del source["split"]
    assert model.fp32_score is None, "of another split"
