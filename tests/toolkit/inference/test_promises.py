"""Promises about a bundle's scores: kept with the labels, with a teacher, refused with the nearest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.calibrating import write_rows_of_temperature
from tests.support.data import rows, write_csv
from toolkit.cli.inspect_bundle import inspect_bundle
from toolkit.config import CalibrateConfig
from toolkit.errors import GateError, ToolkitError
from toolkit.inference.calibrate import run_calibrate


@pytest.fixture(scope="module")
def file(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "later.csv"
    write_rows_of_temperature(path, tiny_onnx, 0.25, 3000, seed=31)
    return path


@pytest.fixture
def bundle(tiny_onnx: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_onnx, tmp_path / "bundle")


def test_thresholds_are_told_and_kept_in_the_bundle(
    bundle: Path, tiny_student: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_calibrate(
        CalibrateConfig(str(bundle), str(file), accurate=0.88, agree=0.98, teacher=str(tiny_student), confidence=0.9)
    )
    right, agreeing = json.loads((bundle / "calibration.json").read_text())["thresholds"]
    assert (right["kind"], right["share"], right["confidence"]) == ("accurate", 0.88, 0.9)
    assert 0.6 < right["threshold"] < 1.0
    assert 0.0 < right["coverage"] < 1.0
    assert (agreeing["kind"], agreeing["coverage"]) == ("agree", pytest.approx(1.0, abs=0.01)), "the same weights"
    assert "are right in at least 88 % of cases (confidence 90 %)" in " ".join(capsys.readouterr().out.split())
    branches = [str(twig.label) for branch in inspect_bundle(bundle).children for twig in branch.children]
    assert any("are the teacher's in at least 98 % of cases" in branch for branch in branches)


def test_where_none_holds_the_nearest_is_told_and_the_bundle_stays(bundle: Path, file: Path) -> None:
    with pytest.raises(GateError, match=r"--accurate 0\.9999: no threshold holds; the nearest, 0\.\d+, keeps") as error:
        run_calibrate(CalibrateConfig(str(bundle), str(file), accurate=0.9999))
    assert error.value.exit_code == 1
    assert not (bundle / "calibration.json").exists()


def test_a_teacher_of_other_labels_is_refused(bundle: Path, file: Path, arithmetic_bundle: Path) -> None:
    with pytest.raises(ToolkitError, match=r"answers score"):
        run_calibrate(CalibrateConfig(str(bundle), str(file), agree=0.9, teacher=str(arithmetic_bundle)))


@pytest.fixture
def arithmetic_bundle(tmp_path: Path, tokenizer: object) -> Path:
    from tests.support.arithmetic_bundles import SUM, save_arithmetic

    return save_arithmetic(tmp_path / "sum", tokenizer, SUM)  # type: ignore[arg-type]


def test_without_a_promise_there_is_none(bundle: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", rows(600, seed=1))
    run_calibrate(CalibrateConfig(str(bundle), str(tmp_path / "rows.csv")))
    assert json.loads((bundle / "calibration.json").read_text())["thresholds"] == []
