"""`toolkit calibrate`: the temperature that the rows show, on rows that it may take, and nothing else in the bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.support.arithmetic_bundles import SUM, save_arithmetic
from tests.support.calibrating import write_rows_of_temperature
from tests.support.data import rows, write_csv
from toolkit.bundle.format import open_bundle
from toolkit.cli.inspect_bundle import inspect_bundle
from toolkit.config import CalibrateConfig
from toolkit.data.columns import DEFAULTS
from toolkit.data.datasets import Split
from toolkit.data.train_rows import load_train
from toolkit.errors import ToolkitError
from toolkit.inference import calibrate as module
from toolkit.inference.calibrate import CalibrationRows, load_rows, own_rows, run_calibrate, used_digests
from toolkit.inference.predictor import open_predictor


@pytest.fixture
def bundle(tiny_onnx: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_onnx, tmp_path / "bundle")


@pytest.fixture(scope="module")
def file(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows about which the model is right as often as a temperature of 0.25 says."""
    path = tmp_path_factory.mktemp("rows") / "later.csv"
    write_rows_of_temperature(path, tiny_onnx, 0.25, 3000, seed=11)
    return path


def test_the_temperature_of_the_rows_is_written_and_applied(
    bundle: Path, tiny_onnx: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_bundle(bundle)
    after = run_calibrate(CalibrateConfig(str(bundle), str(file)))
    record = json.loads((bundle / "calibration.json").read_text())
    assert record["temperature"] == pytest.approx([0.25], rel=0.15)
    assert record["rows"] + record["reported_rows"] == 3000
    assert min(record["rows"], record["reported_rows"]) > 1400
    assert record["ece_after"] < record["ece_before"] / 2
    assert record["log_loss_after"] < record["log_loss_before"]
    assert set(after.manifest["files"]) == {*before.manifest["files"], "calibration.json"}
    sealed = ("files", "digest")
    assert {name: entry for name, entry in after.manifest.items() if name not in sealed} == {
        name: entry for name, entry in before.manifest.items() if name not in sealed
    }
    texts = [text for text, _ in rows(50, seed=12)]
    plain, calm = open_predictor(tiny_onnx, threads=1), open_predictor(bundle, threads=1)
    logits = plain.logits(plain.encoder.encode(texts))
    assert (calm.logits(calm.encoder.encode(texts)) == logits).all()
    odds = np.log(calm.predict(texts)[:, 1] / calm.predict(texts)[:, 0])
    np.testing.assert_allclose(odds, (logits[:, 1] - logits[:, 0]) / record["temperature"][0], rtol=1e-6, atol=1e-9)
    said = " ".join(capsys.readouterr().out.split())
    assert "a half of later.csv" in said
    assert "confidence, %" in said
    assert any("scores: temperature 0.2" in str(branch.label) for branch in inspect_bundle(bundle).children)


def test_a_second_calibration_replaces_the_first(bundle: Path, file: Path) -> None:
    first = run_calibrate(CalibrateConfig(str(bundle), str(file)))
    assert run_calibrate(CalibrateConfig(str(bundle), str(file))).digest == first.digest


def test_too_few_rows_are_refused_with_the_number(bundle: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "few.csv", rows(300, seed=1))
    with pytest.raises(
        ToolkitError,
        match=r"too few rows .*: a half of few.csv has 1\d\d rows and .* 1\d\d, where each needs 200",
    ):
        run_calibrate(CalibrateConfig(str(bundle), str(tmp_path / "few.csv")))
    assert not (bundle / "calibration.json").exists()


def test_rows_that_trained_the_model_are_refused(tiny_teacher: Path, data_dir: Path) -> None:
    with pytest.raises(ToolkitError, match="trained or chosen by"):
        run_calibrate(CalibrateConfig(str(tiny_teacher), str(data_dir / "train.csv")))


@pytest.mark.parametrize("most", [400, 20_000])
def test_a_file_that_holds_the_rows_of_train_is_refused_whatever_its_length(
    bundle: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Of a long file only some rows are taken; of one that was all of a model's data, dev was a share."""
    monkeypatch.setattr(module, "MOST", most)
    source, folder = open_bundle(bundle), tmp_path / "data"
    folder.mkdir()
    shutil.copy(file, folder / "train.csv")
    assert len(load_rows(source, str(file), DEFAULTS)) == min(most, 3000)
    for data in (file, folder):
        source.manifest["data"] = {"train": load_train(source.task, data).digest}
        with pytest.raises(ToolkitError, match=r"later.csv holds the rows that .* was trained or chosen by"):
            load_rows(source, str(file), DEFAULTS)


def test_a_number_has_no_confidence(arithmetic_bundle: Path, file: Path) -> None:
    with pytest.raises(ToolkitError, match="answers with a number"):
        run_calibrate(CalibrateConfig(str(arithmetic_bundle), str(file)))


@pytest.fixture(scope="module")
def arithmetic_bundle(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    return save_arithmetic(tmp_path_factory.mktemp("sum") / "bundle", tokenizer, SUM)


def split(count: int, seed: int) -> Split:
    table = rows(count, seed=seed)
    return Split([text for text, _ in table], None, np.array([label for _, label in table]), "file")


def test_halves_are_about_equal_and_share_no_text() -> None:
    table = split(1000, seed=1)
    both = Split(table.texts * 2, None, np.tile(table.labels, 2), "file")
    halves = CalibrationRows.halves(both, "test")
    assert len(halves.fitted) + len(halves.reported) == 2000
    assert 900 < len(halves.fitted) < 1100
    assert not set(halves.fitted.texts) & set(halves.reported.texts)
    assert CalibrationRows.halves(both.take(np.arange(500)), "test").fitted.texts == [
        text for text in both.texts[:500] if text in set(halves.fitted.texts)
    ]  # a row's side depends on its text alone


def test_own_rows_neither_trained_nor_chose_the_model(tiny_onnx: Path) -> None:
    source, dev, test, few = open_bundle(tiny_onnx), split(900, seed=1), split(900, seed=2), split(96, seed=3)

    def choose(data: dict[str, str], splits: dict[str, Split | None], **entries: Any) -> str:
        source.manifest.update({"split": "dev", "data": data, **entries})  # type: ignore[typeddict-item]
        rows = own_rows(source, splits)
        return rows if isinstance(rows, str) else rows.fitted_of

    assert choose({"dev": dev.digest}, {"test": None, "dev": dev}) == "a half of dev"
    chosen = {"selection": dev.digest, "dev": dev.digest, "test": test.digest}
    assert choose(chosen, {"test": test, "dev": dev}) == "a half of test"
    assert choose(chosen, {"test": few, "dev": dev}).endswith("where each needs 200; dev chose the model")
    origin = {"teacher": {"kind": "teacher", "name": "t", "split": "dev", "data": {"train": test.digest}}}
    assert choose({}, {"test": test, "dev": None}, made_from=origin) == "test chose the model"
    assert set(used_digests(source.manifest)) == {test.digest}
    older = open_bundle(tiny_onnx)
    del older.manifest["split"]
    assert own_rows(older, {"test": None, "dev": dev}) == "dev chose the model"
