"""The baseline of an export is what its own graph answers to dev rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.data import rows, write_csv
from tests.support.exporting import export_loosely
from toolkit.bundle.contents import read_baseline
from toolkit.bundle.format import resealed
from toolkit.inference.predictor import open_predictor


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


def test_too_few_rows_are_said(
    tiny_student: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = export_loosely(tiny_student, data_dir, tmp_path / "out", precision="fp32")
    assert read_baseline(bundle) is None
    assert "no baseline" in capsys.readouterr().out
