"""`calibration.json`: verified like every file, bounded, of the declared types, and absent from older bundles."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.calibrating import calibration
from toolkit.bundle.calibration import describe, describe_promises, is_unsure, label_thresholds, logit_scale
from toolkit.bundle.contents import read_calibration
from toolkit.bundle.format import Bundle, open_bundle, write_bundle
from toolkit.errors import ToolkitError
from toolkit.files import canonical_json
from toolkit.inference.predictor import open_predictor
from toolkit.tasks import Task

LABELS = Task("auto", ("a", "b"))
ONE_NUMBER = {"kind": "agree", "share": 0.9, "confidence": 0.9, "thresholds": [0.5], "coverage": 0.5}


def sealed(source: Path, out: Path, content: bytes) -> Bundle:
    parent = open_bundle(source)
    manifest: Any = {key: value for key, value in parent.manifest.items() if key not in ("files", "digest")}
    with write_bundle(out, manifest) as staging:
        for name in parent.manifest["files"]:
            shutil.copy(source / name, staging / name)
        (staging / "calibration.json").write_bytes(content)
    return open_bundle(out)


def test_a_bundle_without_one_has_the_scores_of_its_model(tiny_onnx: Path) -> None:
    assert read_calibration(open_bundle(tiny_onnx)) is None
    assert logit_scale(None).tolist() == [1.0]


def test_what_is_written_is_read(overconfident: Path) -> None:
    record = read_calibration(open_bundle(overconfident))
    assert record == calibration(2.5)
    assert logit_scale(record) == pytest.approx([0.4])
    assert describe(record) == (
        "scores: temperature 2.5 by 200 rows, a half of test; on 200 rows, the other half of test: calibration error "
        "5.00 -> 2.00 % (2.00 % by chance), log loss 0.5000 -> 0.4000"
    )
    assert "temperature 0.5 to 3 by label" in describe(calibration(0.5, 3.0, 1.0))
    assert logit_scale(calibration(0.5, 2.0)).tolist() == [2.0, 0.5]


def test_both_promises_hold_from_the_higher_threshold_on() -> None:
    record = calibration(1.0)
    assert (label_thresholds(None, LABELS), label_thresholds(record, LABELS)) == (None, None)
    for kind, threshold in (("accurate", 0.9), ("agree", 0.8)):
        record["thresholds"].append(
            {"kind": kind, "share": 0.9, "confidence": 0.9, "threshold": threshold, "coverage": 0.5}  # type: ignore[typeddict-item]
        )
        assert label_thresholds(record, LABELS).tolist() == [0.9, 0.9]  # type: ignore[union-attr]


def test_thresholds_of_labels_count_instead_and_a_label_without_one_is_never_sure() -> None:
    record = calibration(1.0)
    promise: Any = {"kind": "accurate", "share": 0.9, "confidence": 0.9, "coverage": 0.5}
    record["thresholds"].append({**promise, "threshold": 0.99})
    record["label_thresholds"] = [{**promise, "thresholds": [0.6, 0.7]}, {**promise, "thresholds": [0.8, None]}]
    thresholds = label_thresholds(record, LABELS)
    assert thresholds is not None
    assert thresholds.tolist() == [0.8, np.inf]
    scores = np.array([[0.8, 0.2], [0.79, 0.21], [0.0, 1.0]])
    assert is_unsure(scores, thresholds).tolist() == [False, True, True]
    lines = describe_promises(record, LABELS.labels)
    assert "a from 0.6000, b from 0.7000" in lines[1]
    assert lines[2].endswith("(confidence 90 % for all labels together); never sure: b")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "damaged"),
        (b"[" * 2_000_000, "entries"),
        (b"[" * 100_000, "damaged"),
        (b"{}", "temperature: Field required"),
        (canonical_json(calibration()), "temperature: 0 numbers, expected 1"),
        (canonical_json(calibration(1.0, 1.0)), "temperature: 2 numbers, expected 1"),
        (canonical_json(calibration(0.0)), "temperature.0: Input should be greater than or equal to 0.05"),
        (canonical_json(calibration(1e9)), "temperature.0: Input should be less than or equal to 20"),
        (canonical_json({**calibration(1.0), "ece_after": "low"}), "ece_after: Input should be a valid number"),
        (canonical_json({**calibration(1.0), "rows": -1}), "rows: Input should be greater than or equal to 0"),
        (canonical_json(calibration(1.0)).replace(b"1.0", b"NaN"), "temperature.0"),
        (canonical_json({**calibration(1.0), "label_thresholds": [ONE_NUMBER]}), "thresholds: 1 numbers, expected 2"),
    ],
)  # fmt: skip
def test_one_that_makes_no_sense_is_refused(tiny_onnx: Path, tmp_path: Path, content: bytes, problem: str) -> None:
    bundle = sealed(tiny_onnx, tmp_path / "bundle", content)
    with pytest.raises(ToolkitError, match=r"calibration\.json is damaged") as error:
        open_predictor(bundle.path)
    assert problem in str(error.value)


def test_a_large_one_is_refused_unread(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match=r"calibration\.json has 5,000,000 bytes"):
        sealed(tiny_onnx, tmp_path / "bundle", b" " * 5_000_000)


def test_a_flipped_byte_is_named(overconfident: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(overconfident, tmp_path / "bundle")
    content = (copy / "calibration.json").read_bytes()
    (copy / "calibration.json").write_bytes(content.replace(b"2.5", b"3.5"))
    with pytest.raises(ToolkitError, match=r"calibration\.json is damaged"):
        open_bundle(copy)


def test_the_scale_is_of_each_label(overconfident: Path) -> None:
    predictor = open_predictor(overconfident, threads=1)
    logits = np.array([[0.0, 5.0]], dtype=np.float32)
    assert predictor.scores(logits)[0, 1] == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert predictor.scores(logits, raw=True) is logits
