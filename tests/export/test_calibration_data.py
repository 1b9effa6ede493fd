"""Text for calibration and vocabularies: from train rows, from a user's files, and without either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from export.calibration_data import calibration_text, is_quantization_aware, train_rows, vocabulary_text
from tests.support.data import rows, write_csv
from tests.support.exporting import export_loosely
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.config import ExportConfig
from toolkit.errors import ToolkitError


def test_int8_is_calibrated_on_train_rows(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    bundle = export_loosely(tiny_student, data_dir, tmp_path / "int8")
    assert bundle.manifest["quantization"]["calibrated"]
    assert bundle.manifest["data"]["calibration"] != bundle.manifest["data"]["dev"]
    assert bundle.manifest["graph"]["opsets"] == {"ai.onnx": 21, "com.microsoft": 1}
    assert bundle.manifest["graph"]["ir_version"] == 10
    assert bundle.manifest["gates"]["max_batch_difference"] <= 1e-5


def test_calibration_by_a_file_of_text(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "dev.csv").write_bytes((data_dir / "dev.csv").read_bytes())
    text = tmp_path / "more.txt"
    text.write_text("\n".join(text for text, _ in rows(80, seed=9)))
    bundle = export_loosely(tiny_student, tmp_path / "dev", tmp_path / "int8", calibration=str(text))
    assert bundle.manifest["quantization"]["calibrated"]
    plain = export_loosely(tiny_student, tmp_path / "dev", tmp_path / "plain")  # no train rows there
    assert not plain.manifest["quantization"]["calibrated"]
    with pytest.raises(ToolkitError, match="4 bits are rounded by the task's text") as caught:
        export_loosely(tiny_student, tmp_path / "dev", tmp_path / "four", embedding_bits=4)
    assert "--calibration FILE" in caught.value.fix


def config_of(source: Bundle, **options: object) -> ExportConfig:
    return ExportConfig(str(source.path), "out", **options)  # type: ignore[arg-type]


def test_train_rows_are_none_only_in_a_folder_without_them(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    source = open_bundle(tiny_student)
    assert train_rows(source.task, config_of(source, data=str(tmp_path))) is None
    train = train_rows(source.task, config_of(source, data=str(data_dir)))
    assert train is not None
    assert len(train) == 320
    text = calibration_text(source, config_of(source, data=str(data_dir)))
    assert text is not None
    assert sorted(text.texts) == sorted(train.texts)  # in random order


def test_a_quantization_aware_student_needs_text_only_for_few_bits(tiny_student: Path, data_dir: Path) -> None:
    source = open_bundle(tiny_student)
    assert not is_quantization_aware(source)
    aware = replace(source, manifest=source.manifest | {"config": {"quantization_aware": True}})
    assert is_quantization_aware(aware)
    assert calibration_text(aware, config_of(aware, data=str(data_dir))) is None
    assert calibration_text(aware, config_of(aware, data=str(data_dir), embedding_bits=4)) is not None


def test_vocabulary_text_keeps_the_task_apart_from_files(tiny_student: Path, tmp_path: Path) -> None:
    source = open_bundle(tiny_student)
    write_csv(tmp_path / "train.csv", [("a good film", 1), ("a bad plot", 0)])
    for name in ("first", "second"):
        (tmp_path / f"{name}.txt").write_text(f"the {name} text\n")
    files = tuple(str(tmp_path / f"{name}.txt") for name in ("first", "second"))
    config = config_of(source, data=str(tmp_path), trim_vocabulary=files)
    assert vocabulary_text(source.task, config) == [
        ["a good film", "a bad plot"],
        ["the first text", "the second text"],
    ]
    (tmp_path / "train.csv").unlink()
    assert vocabulary_text(source.task, config)[0] == []
