"""Comparing two models on recent inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serve.models.replay import MAX_CHARACTERS, MAX_INPUTS, RecentInputs, compare
from tests.support.arithmetic_bundles import rewritten
from tests.support.data import rows
from toolkit.inference.predictor import open_predictor


def test_comparing_by_hand(arithmetic: dict[str, Path], tiny_onnx: Path, tmp_path: Path) -> None:
    texts = [(text, None if i % 3 else "a plot") for i, (text, _) in enumerate(rows(60, seed=3))]
    first, second = (open_predictor(arithmetic[name], threads=1) for name in ("sum", "twice"))
    comparison = compare(first, second, texts, batch_size=7)
    sums = [float(first.encoder.encode([text], pair and [pair]).ids[0].sum()) for text, pair in texts]
    assert (comparison.compared, comparison.agreement, comparison.max_score_difference, comparison.failed) == (
        60,
        None,
        max(sums),
        0,
    )
    films = open_predictor(tiny_onnx, threads=1)
    same = compare(films, films, texts, batch_size=7)
    assert (same.agreement, same.max_score_difference) == (1.0, 0.0)
    turned = rewritten(tiny_onnx, tmp_path / "turned", classifier__bias=lambda bias: bias + np.array([0.0, 1.5]))
    moved = open_predictor(turned, threads=1)
    labels = [
        [predictor.predict([text], pair and [pair])[0].argmax() for text, pair in texts] for predictor in (films, moved)
    ]
    differing = sum(a != b for a, b in zip(*labels, strict=True))
    assert 0 < differing < 60
    assert compare(films, moved, texts, batch_size=7).agreement == pytest.approx(1 - differing / 60)
    assert compare(films, moved, [], batch_size=7).compared == 0


def test_what_is_remembered_is_bounded() -> None:
    recent = RecentInputs()
    for i in range(3 * MAX_INPUTS):
        recent.add([(f"{i} " + "x" * 10_000, None if i % 2 else "y" * 10_000)])
    texts = recent.texts()
    assert [text.split()[0] for text, _ in texts] == [str(i) for i in range(2 * MAX_INPUTS, 3 * MAX_INPUTS)]
    assert {len(part) for pair in texts for part in pair if part is not None} == {MAX_CHARACTERS}
    recent.add([("a", None)] * 1000)
    assert recent.texts() == [("a", None)] * MAX_INPUTS
