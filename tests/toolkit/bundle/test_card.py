"""The card says what the bundle holds, in Markdown that names of any kind leave whole, and is sealed with it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from tests.support.calibrating import write_rows_of_temperature
from toolkit.bundle.card import MAX_CLASSES, CardSource, card, plain, table
from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.bundle.manifest import CARD, MANIFEST
from toolkit.config import CalibrateConfig
from toolkit.errors import ToolkitError
from toolkit.inference.calibrate import run_calibrate


def section(text: str, title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"^## ", text.split(f"## {title}", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def cells(part: str) -> list[list[str]]:
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_a_trained_bundle_has_a_card_that_the_hub_s_library_accepts(tiny_teacher: Path) -> None:
    bundle = open_bundle(tiny_teacher)
    text = (tiny_teacher / CARD).read_text()
    read = ModelCard(text)  # raises where the metadata are not as the hub has them
    assert read.data.pipeline_tag == "text-classification"
    assert read.data.license is None
    assert {result.metric_type: result.metric_value for result in read.data.eval_results or []} == {
        name: pytest.approx(value, abs=1e-6) for name, value in bundle.manifest["metrics"].items()
    }
    accuracy = f"{100 * bundle.manifest['metrics']['accuracy']:.2f}"
    assert ["dev", "accuracy", accuracy, "-", "-"] in cells(section(text, "Scores"))
    assert "64 rows of train chose the step" in section(text, "Scores")
    by_class = {label: (int(rows), float(recall)) for label, rows, _, recall, _ in cells(section(text, "By class"))[2:]}
    assert sum(rows for rows, _ in by_class.values()) == 96
    assert sum(rows * recall for rows, recall in by_class.values()) / 96 == pytest.approx(float(accuracy), abs=0.01)
    assert bundle.manifest["data"]["train"][:12] in section(text, "What it was made from")  # type: ignore[index]
    assert str(tiny_teacher.parent) not in text, "its directories are not told"
    assert "ms" not in section(text, "Size and speed"), "nothing was timed"


def test_calibration_renews_the_card_and_a_changed_card_is_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    out = shutil.copytree(tiny_onnx, tmp_path / "b")
    write_rows_of_temperature(tmp_path / "rows.csv", tiny_onnx, 0.5, 900, seed=3)
    assert "not calibrated" in (out / CARD).read_text()
    run_calibrate(CalibrateConfig(str(out), str(tmp_path / "rows.csv")))
    text = (out / CARD).read_text()
    assert "not calibrated" not in text
    assert "calibration error" in section(text, "Scores")
    (out / CARD).write_text(text.replace("%", "percent", 1))
    with pytest.raises(ToolkitError, match=r"README\.md is damaged"):
        open_bundle(out)


def test_a_bundle_of_an_older_toolkit_without_a_card_opens(tiny_onnx: Path, tmp_path: Path) -> None:
    from toolkit.bundle.manifest import manifest_digest
    from toolkit.files import canonical_json

    out = shutil.copytree(tiny_onnx, tmp_path / "b")
    stored = json.loads((out / MANIFEST).read_bytes())
    del stored["files"][CARD]
    (out / CARD).unlink()
    (out / MANIFEST).write_bytes(canonical_json(stored | {"digest": manifest_digest(stored)}))
    assert CARD not in open_bundle(out).manifest["files"]


def source(folder: Path, **entries: Any) -> CardSource:
    manifest: Any = {
        "kind": "onnx", "task": {"name": "auto", "kind": "classification", "labels": ["a", "b"],
        "metrics": ["accuracy"], "pair": False}, "precision": "int8", "max_length": 32, "parent": None, "made_from": {},
        "config": {}, "seed": 0, "data": {}, "metrics": {}, "versions": {},
    } | entries  # fmt: skip
    return CardSource(folder, manifest, "bert", None)


def test_what_was_measured_is_told_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x" * 1_230_000)
    timed = {"candidate": "int8", "latency_ms": 1.234, "cpu": "Fast CPU"}
    text = card(source(tmp_path, quantization=timed, split="test", metrics={"accuracy": 0.9},
                       dev_scores={"metrics": {"accuracy": 0.8}, "teacher_metrics": {"accuracy": 0.85}},
                       license="mit"))  # fmt: skip
    assert "1.23 MB" in section(text, "Size and speed")
    assert "1.23 ms (median over texts of dev) on a Fast CPU" in section(text, "Size and speed")
    assert cells(section(text, "Scores"))[2:] == [
        ["test", "accuracy", "90.00", "-", "-"], ["dev", "accuracy", "80.00", "-", "85.00"],
    ]  # fmt: skip
    assert ModelCard(text).data.license == "mit"
    assert "license" not in section(text, "Limits").lower()
    bare = card(source(tmp_path))
    assert "## Scores" not in bare
    assert "## Gates" not in bare
    assert "No license is stated" in section(bare, "Limits")


def test_of_many_classes_those_recognized_worst_are_shown(tmp_path: Path) -> None:
    classes = {f"c{i}": {"rows": i, "precision": 1.0, "recall": 1.0, "f1": i / 100} for i in range(100)}
    part = section(card(source(tmp_path, by_class=classes)), "By class")
    assert [row[0] for row in cells(part)[2:]] == [f"c{i}" for i in range(MAX_CLASSES)]
    assert f"These {MAX_CLASSES} of 100" in part


@given(st.lists(st.text(max_size=30), min_size=2, max_size=4, unique=True), st.text(max_size=30))
def test_names_of_any_kind_leave_the_card_whole(labels: list[str], name: str) -> None:
    task = {"name": name, "kind": "classification", "labels": labels, "metrics": ["accuracy"], "pair": True}
    classes = {label: {"rows": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0} for label in labels}
    origins = {"teacher": {"kind": "teacher", "name": f"runs/{name}", "metrics": {"accuracy": 0.5}}}
    text = card(source(Path("none"), task=task, by_class=classes, made_from=origins, metrics={"accuracy": 0.5}))
    text.encode()
    assert len(ModelCard(text).data.eval_results or []) == 1
    assert {len(row) for row in cells(section(text, "By class"))} == {5}
    assert len(cells(section(text, "By class"))) == 2 + len(labels)
    assert re.findall(r"^## .*", text, re.MULTILINE)[0] == "## What it was made from"


def test_signs_of_markdown_are_escaped() -> None:
    assert plain("a|b\n## `c` <b> [x]\\") == r"a\|b ## \`c\` &lt;b> \[x\]\\"
    assert table(["name", "n"], [["x", "1.5"], ["y", "-"]]).splitlines()[1] == "| --- | --: |"


def test_a_card_does_not_depend_on_where_or_when_it_is_written(tiny_onnx: Path, tmp_path: Path) -> None:
    stored = open_bundle(tiny_onnx).manifest
    for name in "ab":
        manifest: Any = {key: value for key, value in stored.items() if key not in ("files", "digest")}
        with write_bundle(tmp_path / name, manifest) as staging:
            for file in stored["files"]:
                shutil.copy(tiny_onnx / file, staging / file)
    assert open_bundle(tmp_path / "a").digest == open_bundle(tmp_path / "b").digest == open_bundle(tiny_onnx).digest
