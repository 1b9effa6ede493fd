"""The rows that calibrate an export's scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.confidence_rows import confidence_rows
from tests.support.calibrating import write_rows_of_temperature
from tests.support.data import rows, write_csv
from tests.support.exporting import export_loosely
from toolkit.bundle.format import open_bundle
from toolkit.config import ExportConfig
from toolkit.data.datasets import Split
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_an_export_calibrates_the_logits_of_its_own_graph(tiny_student: Path, tmp_path: Path, precision: str) -> None:
    file = tmp_path / "more.csv"
    write_rows_of_temperature(file, tiny_student, 0.25, 1500, seed=21)
    write_rows_of_temperature(tmp_path / "dev.csv", tiny_student, 0.25, 1200, seed=22)
    own = export_loosely(tiny_student, tmp_path, tmp_path / "own", precision=precision)
    given = export_loosely(tiny_student, tmp_path, tmp_path / "given", precision=precision, confidence_data=str(file))
    halves, whole = (json.loads((bundle.path / "calibration.json").read_text()) for bundle in (own, given))
    for record in (halves, whole):
        assert record["temperature"] == pytest.approx([0.25], rel=0.2)
        assert record["ece_after"] <= record["ece_before"] / 2
    assert halves["rows"] + halves["reported_rows"] == 1200
    assert (whole["rows"], whole["reported_rows"], whole["reported_rows_of"]) == (1500, 1200, "dev")
    texts = [text for text, _ in rows(100, seed=23)]
    predictor = open_predictor(given.path)
    logits = predictor.logits(predictor.encoder.encode(texts))
    assert (predictor.predict(texts).argmax(axis=1) == logits.argmax(axis=1)).all()
    assert given.manifest["metrics"] == own.manifest["metrics"]


def test_too_few_rows_of_its_own_are_said(
    tiny_student: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = export_loosely(tiny_student, data_dir, tmp_path / "out", precision="fp32")
    assert "calibration.json" not in bundle.manifest["files"]
    said = " ".join(capsys.readouterr().out.split())
    assert "scores are not calibrated: " in said
    assert "where each needs 200 (else: --confidence-data FILE)" in said


def test_what_reports_fits_nothing(tiny_student: Path, tmp_path: Path) -> None:
    table = rows(500, seed=1)
    write_csv(tmp_path / "more.csv", table)
    config = ExportConfig(str(tiny_student), "out", data="d", confidence_data=str(tmp_path / "more.csv"))
    texts, labels = zip(*table[:300], strict=True)
    dev = Split(list(texts), None, np.array(labels), "dev.csv")
    chosen = confidence_rows(open_bundle(tiny_student), config, {"test": None, "dev": dev})
    assert chosen is not None
    assert chosen.reported is dev
    assert not set(chosen.fitted.texts) & set(dev.texts)
    assert set(chosen.fitted.texts) | set(dev.texts) == {text for text, _ in table}


def test_too_few_rows_are_refused_before_the_export(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "few.csv", rows(150, seed=1))
    with pytest.raises(ToolkitError, match="too few rows"):
        export_loosely(tiny_student, data_dir, tmp_path / "out", confidence_data=str(tmp_path / "few.csv"))
    assert not (tmp_path / "out").exists()
