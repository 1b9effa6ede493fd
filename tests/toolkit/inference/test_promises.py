"""Promises about a bundle's scores: kept with the labels, with a teacher, refused with the nearest."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file

from serve.app import create_app
from serve.engine.limits import Limits
from serve.models.loading import load_predictor
from tests.support.calibrating import write_rows_of_temperature
from tests.support.command_line import toolkit
from tests.support.data import rows, write_csv
from toolkit.bundle.format import open_bundle, resealed
from toolkit.cli.inspect_bundle import inspect_bundle
from toolkit.config import CalibrateConfig
from toolkit.errors import GateError, ToolkitError
from toolkit.inference.calibrate import run_calibrate
from toolkit.inference.predictor import open_predictor


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


def test_each_label_gets_a_threshold_of_its_own_that_every_command_reads(
    bundle: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("calibrate", bundle, "--data", file, "--accurate", "0.88", "--per-class")
    assert toolkit(*asked).returncode == 0
    record = json.loads((bundle / "calibration.json").read_text())
    (promise,) = record["label_thresholds"]
    assert (promise["share"], promise["confidence"], len(record["thresholds"])) == (0.88, 0.95, 1)
    thresholds = np.array([math.inf if own is None else own for own in promise["thresholds"]])
    assert 0.5 < thresholds.min() < 1.0
    texts = [text for text, _ in rows(40, seed=32)]
    scores = open_predictor(bundle, threads=1).predict(texts)
    unsure = (scores.max(axis=1) < thresholds[scores.argmax(axis=1)]).tolist()
    assert 0 < sum(unsure) < len(texts)
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    toolkit("score", bundle, "--input", tmp_path / "texts.txt", "--out", tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["unsure"] for line in lines] == unsure
    shown = [toolkit("predict", bundle, texts[unsure.index(doubt)]).stdout for doubt in (False, True)]
    assert ["unsure: the best score is below" in out for out in shown] == [False, True]
    with TestClient(create_app({"films": load_predictor(bundle)}, limits=Limits(workers=1))) as client:
        answers = client.post("/predict", json={"inputs": [[text] for text in texts[:32]], "details": True})
    assert [answer[0]["unsure"] for answer in answers.json()] == unsure[:32]
    assert "for all labels together" in str([branch.label for branch in inspect_bundle(bundle).children[1].children])


def test_where_no_label_has_a_threshold_the_bundle_stays(bundle: Path, file: Path) -> None:
    with pytest.raises(GateError, match=r"--accurate 0\.9999 --per-class: no label has a threshold that holds"):
        run_calibrate(CalibrateConfig(str(bundle), str(file), accurate=0.9999, per_class=True))
    assert not (bundle / "calibration.json").exists()


def test_a_teacher_may_have_the_labels_in_another_order(
    bundle: Path, tiny_student: Path, file: Path, tmp_path: Path
) -> None:
    teacher = shutil.copytree(tiny_student, tmp_path / "teacher")
    with resealed(open_bundle(teacher)) as (staging, manifest):
        weights = load_file(staging / "model.safetensors")
        turned = {name: tensor.flip(0) for name, tensor in weights.items() if name.startswith("classifier.")}
        save_file(weights | turned, staging / "model.safetensors", metadata={"format": "pt"})
        assert manifest["task"] is not None
        manifest["task"]["labels"].reverse()
    run_calibrate(CalibrateConfig(str(bundle), str(file), agree=0.98, teacher=str(teacher)))
    (agreeing,) = json.loads((bundle / "calibration.json").read_text())["thresholds"]
    assert agreeing["coverage"] == pytest.approx(1.0, abs=0.01)


def test_a_teacher_of_other_labels_is_refused(bundle: Path, file: Path, arithmetic_bundle: Path) -> None:
    with pytest.raises(ToolkitError, match="its labels are score; those of the first model are negative, positive"):
        run_calibrate(CalibrateConfig(str(bundle), str(file), agree=0.9, teacher=str(arithmetic_bundle)))


@pytest.fixture
def arithmetic_bundle(tmp_path: Path, tokenizer: object) -> Path:
    from tests.support.arithmetic_bundles import SUM, save_arithmetic

    return save_arithmetic(tmp_path / "sum", tokenizer, SUM)  # type: ignore[arg-type]


def test_without_a_promise_there_is_none(bundle: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", rows(600, seed=1))
    run_calibrate(CalibrateConfig(str(bundle), str(tmp_path / "rows.csv")))
    assert json.loads((bundle / "calibration.json").read_text())["thresholds"] == []
