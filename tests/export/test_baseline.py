"""The baseline of an export is what its own graph answers to dev rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export import baseline as making
from export.baseline import dev_baseline
from export.calibration_data import SEED
from export.verify import GraphVerifier
from tests.support.data import rows, write_csv
from tests.support.exporting import export_loosely
from toolkit.bundle.contents import read_baseline
from toolkit.bundle.format import open_bundle, resealed
from toolkit.data.datasets import Split
from toolkit.inference.predictor import open_predictor
from toolkit.inference.runtimes import TorchRuntime


def test_it_counts_what_the_exported_graph_answers(tiny_student: Path, tmp_path: Path) -> None:
    table = rows(300, seed=41)
    write_csv(tmp_path / "dev.csv", table)
    bundle = export_loosely(tiny_student, tmp_path, tmp_path / "out", precision="fp32")
    baseline, predictor = read_baseline(bundle), open_predictor(bundle.path)
    assert baseline is not None
    texts = [text for text, _ in table]
    best = predictor.predict(texts).argmax(axis=1)
    assert baseline["labels"] == [int((best == label).sum()) for label in (0, 1)]
    assert (baseline["rows"], baseline["rows_of"]) == (300, "dev")
    assert baseline["rows_sha256"] == bundle.manifest["data"]["dev"]
    lengths = np.sort([len(ids) for ids in predictor.encoder.encode(texts).ids])
    assert baseline["length"]["edges"] == sorted({float(lengths[30 * tenth - 1]) for tenth in range(1, 10)})
    with resealed(bundle, without="calibration.json"):
        pass
    assert read_baseline(open_predictor(bundle.path).bundle) == baseline, "a later calibration leaves it"


def test_of_many_rows_some_are_counted(tiny_student: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text for text, _ in rows(300, seed=41)]
    dev = Split(texts, None, np.zeros(300, dtype=np.int64), "here")
    source, runtime = open_bundle(tiny_student), TorchRuntime.load(tiny_student)
    logits, some = np.random.default_rng(0).normal(size=(300, 2)), dev.sample(250, SEED)
    whole, part = (
        GraphVerifier(source, split, runtime, tiny_onnx, max_drop=0.5, trimmed=False) for split in (dev, dev.take(some))
    )
    monkeypatch.setattr(making, "MOST", 250)
    assert dev_baseline(whole, logits) == dev_baseline(part, logits[some])


def test_too_few_rows_are_said(
    tiny_student: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = export_loosely(tiny_student, data_dir, tmp_path / "out", precision="fp32")
    assert read_baseline(bundle) is None
    assert (
        "the server will see no drift: its baseline needs 200 dev rows, of which there are 96"
        in capsys.readouterr().out
    )
