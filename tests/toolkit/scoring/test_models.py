"""Every kind of model answers as it does by itself; what is no trained classifier is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.data import rows
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.scoring import models
from toolkit.scoring.models import open_scorer

TEXTS = [text for text, _ in rows(40, seed=5)]


@pytest.fixture(autouse=True)
def threads() -> object:
    """Leave PyTorch's threads as they were: a scorer takes one."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_bundle_and_the_same_model_as_a_plain_directory_agree(
    tiny_student: Path, tiny_onnx: Path, tmp_path: Path, tiny_bert: Callable[..., object],
    save_model: Callable[..., Path],
) -> None:  # fmt: skip
    plain = save_model(tiny_bert(), tmp_path / "plain")  # the weights of both bundles
    predictor = open_predictor(tiny_student)
    expected = predictor.logits(predictor.encoder.encode(TEXTS))
    assert expected.std() > 0.1
    for name, says_pairs in ((tiny_student, True), (tiny_onnx, True), (plain, False)):
        scorer = open_scorer(str(name), "auto")
        assert (scorer.task.labels, scorer.task.kind, scorer.says_pairs) == (
            ("negative", "positive"), "classification", says_pairs,
        )  # fmt: skip
        np.testing.assert_allclose(scorer.answer(TEXTS, None), expected, atol=1e-4)
    assert open_scorer(str(plain), "cpu").digest == open_scorer(str(plain), "cpu").digest
    other = save_model(tiny_bert(1), tmp_path / "other")
    assert open_scorer(str(other), "cpu").digest != open_scorer(str(plain), "cpu").digest


def test_an_encoder_without_a_head_is_no_classifier(
    tmp_path: Path, tiny_bert: Callable[..., object], save_model: Callable[..., Path]
) -> None:
    encoder = save_model(tiny_bert().bert, tmp_path / "encoder")  # type: ignore[attr-defined]
    with pytest.raises(ToolkitError, match=r"no trained classifier: classifier\.bias, classifier\.weight missing"):
        open_scorer(str(encoder), "cpu")


def test_batches_hold_so_many_tokens(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, shapes = open_scorer(str(tiny_student), "cpu"), []
    runtime = scorer.classifier.runtime
    run = runtime.run
    monkeypatch.setattr(runtime, "run", lambda batch: shapes.append(batch["input_ids"].shape) or run(batch))
    monkeypatch.setitem(models.BATCH_TOKENS, "cpu", 64)
    scorer.answer(TEXTS, None)
    assert sum(rows for rows, _ in shapes) == 40
    assert all(rows * length <= 64 for rows, length in shapes)
