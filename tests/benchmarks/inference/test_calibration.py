"""The simulation of calibration, on scores whose truth is known; the rows that nobody learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.inference.calibration import divide, simulate
from toolkit.data.datasets import load_split
from toolkit.tasks import get_task


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_the_factor_that_made_scores_too_sure_is_the_temperature(factor: float) -> None:
    generator = np.random.default_rng(5)
    logits = generator.normal(0, 1.5, (6000, 2))
    odds = logits[:, 1] - logits[:, 0]
    labels = (generator.random(6000) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    result = simulate(factor * logits, labels, rows=2000, draws=20)
    assert result["temperature"] == pytest.approx(factor, rel=0.05)
    assert result["after"] < 1.5 * result["chance"]
    if factor > 1:
        assert result["before"] > 5 * result["after"]


def test_what_is_unseen_is_in_neither_file(tmp_path: Path) -> None:
    data, out, task = tmp_path / "all", tmp_path / "out", get_task("rotten-tomatoes")
    data.mkdir()
    for name, count in (("train", 40), ("dev", 10), ("test", 5)):
        rows = "".join(f"{name} {number},{task.labels[number % 2]}\n" for number in range(count))
        (data / f"{name}.csv").write_text(f"text,label\n{rows}")
    unseen = divide(task, str(data), 30, out)
    learnt, dev = (load_split(task, name, out) for name in ("train", "dev"))
    assert (len(learnt), len(dev), len(unseen)) == (30, 10, 15)
    assert sorted(learnt.texts + unseen.texts) == sorted(
        [f"train {n}" for n in range(40)] + [f"test {n}" for n in range(5)]
    )
    truth = {f"{name} {number}": number % 2 for name in ("train", "test") for number in range(40)}
    assert [truth[text] for text in unseen.texts] == unseen.labels.tolist()
