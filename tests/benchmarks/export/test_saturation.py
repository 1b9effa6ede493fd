"""A model built to saturate on AVX2: wrong answers with onnxruntime's default quantizer, right answers with ours.

The CPU of the tests may have VNNI, where nothing saturates. onnx's reference evaluator with AVX2's products replaces a
CPU without it; where qemu is installed, onnxruntime's own AVX2 kernels are run too.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.export.saturation import (
    EMULATED,
    QUANTIZERS,
    Avx2,
    avx2_product,
    examine,
    pair_sums,
    runtime_logits,
    saturating_texts,
    write_built,
    write_student,
)
from export.pipeline import run_export
from toolkit.config import ExportConfig
from toolkit.inference.runtimes import OnnxRuntime

FEEDS = [{"input_ids": saturating_texts(40)}]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    write_built(folder)
    return folder


def labels(logits: np.ndarray) -> list[int]:
    return logits.argmax(axis=1).tolist()


def test_pairs_by_hand() -> None:
    x = np.array([[255, 255, 200, 100, 7]], dtype=np.uint8)
    weight = np.array([[127], [127], [-100], [50], [3]], dtype=np.int8)
    assert pair_sums(x, weight)[0, :, 0].tolist() == [64770, -15000, 21]
    assert avx2_product(x, weight).tolist() == [[32767 - 15000 + 21]]
    assert avx2_product(np.full((1, 4), 255, np.uint8), np.full((4, 1), -128, np.int8)).tolist() == [[2 * -32768]]


@given(
    hnp.arrays(np.uint8, (3, 6), elements=st.integers(0, 255)),
    hnp.arrays(np.int8, (6, 2), elements=st.integers(-64, 64)),
)
def test_weights_up_to_64_never_saturate(x: np.ndarray, weight: np.ndarray) -> None:
    assert avx2_product(x, weight).tolist() == (x.astype(int) @ weight.astype(int)).tolist()


def test_the_default_quantizer_saturates_and_ours_cannot(built: Path) -> None:
    exact = OnnxRuntime(built / "fp32.onnx", threads=1).run(FEEDS[0])
    assert labels(exact) == [0, 1] * 20
    default, ours = (Avx2(built / f"{name}.onnx") for name in QUANTIZERS)
    assert labels(default.run(FEEDS[0])) == [1, 1] * 20, "full rows halve"
    assert default.saturated > 0
    logits = ours.run(FEEDS[0])
    assert labels(logits) == [0, 1] * 20
    assert ours.saturated == 0
    assert np.abs(logits - exact).max() < 0.02 * np.abs(exact).max()
    assert (default.largest, ours.largest) == (2 * 255 * 127, 2 * 255 * 63)


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_evaluator_without_saturation_is_onnxruntime(
    calibrated: bool, tiny_student: Path, data_dir: Path, tmp_path: Path
) -> None:
    """Of a whole encoder: where no pair saturates, the evaluator must give what onnxruntime gives."""
    int8 = tmp_path / "int8" if calibrated else None
    if int8 is not None:
        run_export(ExportConfig(str(tiny_student), str(int8), data=str(data_dir), max_drop=100.0))
    write_student(tiny_student, tmp_path, int8)
    ids = np.random.default_rng(0).integers(5, 90, (3, 7))
    feed = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    ours = Avx2(tmp_path / "ours.onnx")
    expected = OnnxRuntime(tmp_path / "ours.onnx", threads=1).run(feed)
    np.testing.assert_allclose(ours.run(feed), expected, atol=1e-3 * np.abs(expected).max())
    # query, key, value and output of attention [24, 24], the FFN's two, for 21 tokens of 2 layers; of the last one keys
    # and values for all, the rest and the pooler for the 3 first ones
    attention, feed_forward = 12 * 24, 12 * 48 + 24 * 24
    assert ours.pairs == 21 * (2 * (4 * attention + feed_forward) + 2 * attention) + 3 * (3 * attention + feed_forward)


@pytest.mark.skipif(not shutil.which(EMULATED[0]), reason="needs qemu-x86_64 (Debian: qemu-user)")
@pytest.mark.slow
def test_onnxruntime_on_a_haswell_does_as_the_evaluator(built: Path) -> None:
    for name in QUANTIZERS:
        path = built / f"{name}.onnx"
        emulated = runtime_logits(path, FEEDS, EMULATED)
        np.testing.assert_allclose(emulated, Avx2(path).run(FEEDS[0]), rtol=1e-4)


@pytest.mark.slow
def test_the_report(built: Path) -> None:
    report = json.loads(json.dumps(examine(built, FEEDS)))
    assert report["texts"] == 40
    assert set(report["ours"]["wrong_answers"].values()) == {0}
    assert report["default"]["wrong_answers"]["avx2"] == 20
    assert report["default"]["saturated_pairs"] > 0 == report["ours"]["saturated_pairs"]
