"""`baseline.json`: verified like every file, of the declared types, and absent from older bundles."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from toolkit.bundle.baseline import parse_baseline
from toolkit.bundle.contents import read_baseline
from toolkit.bundle.format import open_bundle
from toolkit.errors import ToolkitError
from toolkit.files import canonical_json
from toolkit.tasks import Task

TASK = Task("auto", ("a", "b")).to_dict()
BASELINE: dict[str, Any] = {
    "rows": 4, "rows_of": "dev", "rows_sha256": "0" * 64, "labels": [1, 3], "unlabelled": 0,
    "confidence": {"edges": [0.6, 0.9], "counts": [2, 1, 1]}, "length": {"edges": [7.0], "counts": [4, 0]},
    "unknown": {"edges": [], "counts": [4]},
}  # fmt: skip


def test_a_bundle_without_one_opens(tiny_onnx: Path, watched: Path) -> None:
    assert read_baseline(open_bundle(tiny_onnx)) is None
    baseline = read_baseline(open_bundle(watched))
    assert baseline is not None
    assert (baseline["rows"], sum(baseline["labels"])) == (1000, 1000)


def test_what_makes_no_sense_is_said() -> None:
    assert parse_baseline(canonical_json(BASELINE), TASK) == BASELINE
    for path, value, said in (
        (("labels",), [1, 2, 1], "labels: 3 numbers, expected 2"),
        (("labels",), [0, 0], "the most frequent has 0 rows, expected 1 to 4"),
        (("unlabelled",), 5, "the most frequent has 5 rows, expected 1 to 4"),
        (("confidence", "edges"), [0.9, 0.6], "confidence: expected rising edges"),
        (("length", "counts"), [4], "length: expected rising edges, and one count more"),
        (("unknown", "counts"), [3], "unknown: 3 rows are counted, expected 4"),
        (("length", "edges"), [float("nan")], "finite"),
        (("length", "counts"), [5, -1], "length.counts.1"),
        (("rows",), "4", "rows"),
    ):
        wrong = copy.deepcopy(BASELINE)
        entry = wrong
        for name in path[:-1]:
            entry = entry[name]
        entry[path[-1]] = value
        with pytest.raises(ValueError, match=said):
            parse_baseline(json.dumps(wrong).encode(), TASK)
    with pytest.raises(ValueError, match="labels: 2 numbers, expected 0"):
        parse_baseline(canonical_json(BASELINE), Task("auto", ("a",), kind="regression").to_dict())
    with pytest.raises(ValueError, match="recursion"):
        parse_baseline(b"[" * 100_000, TASK)


def test_a_changed_one_is_refused(watched: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(watched, tmp_path / "copy")
    bundle = open_bundle(copied)
    (copied / "baseline.json").write_bytes(b"{}")
    with pytest.raises(ToolkitError, match="has changed"):
        read_baseline(bundle)
