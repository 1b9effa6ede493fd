"""The difference of logits alone and in a batch, for runtimes whose dependence is known."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from benchmarks.export.invariance import LIMIT, PASSES, largest_difference
from toolkit.data.tokenization import Batch, EncodedTexts
from toolkit.inference.runtimes import OnnxRuntime

IDS = [np.arange(1, length + 1) for length in (1, 2, 3, 4, 5, 6)]
TEXTS = EncodedTexts(ids=IDS, type_ids=[ids * 0 for ids in IDS], truncated=np.zeros(6, bool), pad_id=0)


class Runtime:
    """Logits [B, 2]: the sum of the real ids, plus errors for each text beside it and for padding."""

    def __init__(self, by_neighbour: float = 0.0, by_padding: float = 0.0) -> None:
        self.by_neighbour, self.by_padding = by_neighbour, by_padding

    def run(self, batch: Batch) -> np.ndarray:
        mask = batch["attention_mask"]
        total = (batch["input_ids"] * mask).sum(axis=1).astype(np.float64)
        total += self.by_neighbour * (len(mask) - 1) + self.by_padding * (mask.shape[1] - mask.sum(axis=1))
        return np.stack([total, -total], axis=1)


def measured(runtime: Runtime) -> dict[str, float]:
    return largest_difference(cast(OnnxRuntime, runtime), TEXTS, longest=8, seed=0)


def test_a_runtime_that_takes_each_text_by_itself() -> None:
    result = measured(Runtime())
    assert (result["texts"], result["passes"]) == (6, PASSES)
    assert (result["max_difference"], result["changed"], result["over_limit"]) == (0.0, 0.0, 0.0)


def test_a_dependence_on_neighbours_is_measured() -> None:
    result = measured(Runtime(by_neighbour=1.0))
    assert result["max_difference"] == int(result["max_difference"])
    assert 1 <= result["max_difference"] <= 5  # a batch holds at most all six texts
    assert result["changed"] > 0.5


def test_a_dependence_on_padding_is_measured() -> None:
    result = measured(Runtime(by_padding=LIMIT))
    assert result["max_difference"] == pytest.approx(LIMIT * round(result["max_difference"] / LIMIT))
    assert LIMIT < result["max_difference"] <= 7 * LIMIT * 1.001  # the text of one token, padded to eight
    assert 0 < result["over_limit"] <= result["changed"] < 1
