"""Price lists: terms by hand, prices that are known, sizes of real files, and what is kept between commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.int8.calibration import collect_inputs
from export.int8.embeddings import COMMON_ROWS, LowBitSettings
from export.int8.quantize import linear_inputs, quantize_graph
from export.onnx_export import count_layers, export_fp32, save_graph
from tests.support.exporting import export_loosely
from toolkit.benchmarking.random_models import build
from toolkit.bundle.format import open_bundle
from toolkit.compression import prices
from toolkit.compression.prices import (
    PriceList,
    design,
    marked_lengths,
    measured_price_list,
    number_bytes,
    possible_bits,
    terms,
)
from toolkit.compression.shapes import linear_weights, shape_grid
from toolkit.compression.timing import VOCABULARY, Timed, sizes_of, time_shapes
from toolkit.compression.words import SPARE
from toolkit.data.tokenization import EncodedTexts
from toolkit.models.student import Shape

CONFIG = {"vocab_size": 100, "max_position_embeddings": 20, "type_vocab_size": 2, "id2label": {"0": "a", "1": "b"}}
GRID = shape_grid(Shape(6, 384, 1536, 12))
KNOWN = np.array([2e-2, 3e-2, 6e-9, 4e-8, 8e-7, 1e-6, 1e-6, 5e-8])  # ms


def known_list(shapes: Sequence[Shape], slow: Shape | None = None) -> PriceList:
    """A price list of shapes that cost what KNOWN says, one of them twice as much."""
    lengths = (8, 24, 64)
    timed = [
        Timed(shape, {n: float(terms(shape, n) @ KNOWN) * (2 if shape == slow else 1) for n in lengths}, 10_000)
        for shape in shapes
    ]
    return PriceList(tuple(timed), CONFIG)


def test_the_terms_of_a_small_shape() -> None:
    products = 10 * (4 * 16 * 16 + 2 * 16 * 64) + 10 * 2 * 16 * 16
    weights = 2 * (4 * 16 * 16 + 2 * 16 * 64)
    assert terms(Shape(2, 16, 64, 4), 10).tolist() == [1, 2, products, 1600, 400, 320, 640, weights]
    assert terms(Shape(2, 17, 49, 4), 10).tolist() == terms(Shape(2, 32, 64, 4), 10).tolist()


def test_known_prices_are_found_for_shapes_that_were_not_measured() -> None:
    shapes = design(GRID)
    listed, rest = known_list(shapes), [shape for shape in GRID if shape not in shapes]
    assert len(rest) > 100
    for shape in rest:
        mean = (terms(shape, 16) @ KNOWN + terms(shape, 48) @ KNOWN) / 2
        assert listed.latency_ms(shape, [16, 48]) == pytest.approx(mean, rel=1e-6)
    assert listed.errors.largest < 1e-6


def test_the_error_is_that_of_a_shape_as_the_others_predict_it() -> None:
    shapes = design(GRID)
    errors = known_list(shapes, slow=shapes[5]).errors
    assert errors.largest == pytest.approx(0.5, abs=0.05)
    assert errors.median < 0.1


def test_the_numbers_of_a_graph() -> None:
    # 122 rows of 16 numbers and a scale, the numbers of 20 positions, 4 d d + 2 d F, the pooler, scale and bias of
    # 4 d + F + d and the pooler's d outputs, and two rows of the classifier in float32
    assert number_bytes(CONFIG, Shape(1, 16, 48, 4)) == 122 * 18 + 20 * 8 + (1024 + 1536) + 256 + 8 * 144 + 2 * 16 * 4


def test_few_bits_of_the_words_are_counted_with_what_stands_beside_them() -> None:
    config, shape = {**CONFIG, "vocab_size": 30_522}, Shape(4, 312, 1200, 12)
    eight, four, two = (number_bytes(config, shape, bits) for bits in (8, 4, 2))
    # half of the words; a number of one byte for each, 255 rows of 8 bits and a row of zeros, two floats a byte
    assert eight - four == 30_522 * 156 - 30_522 - 256 * 314 - 256 * 8
    # a half again; numbers of two bytes, lower bits for 2,817 pieces and a row of zeros, two more floats a byte
    assert four - two == 30_522 * 78 - 2 * 30_522 - 2818 * 80 - 256 * 8
    assert possible_bits(Shape(1, 18, 48, 3)) == [8, 4]


def test_the_size_is_that_of_the_real_file(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    real = export_loosely(tiny_student, data_dir, tmp_path / "int8")
    config = open_bundle(tiny_student).config
    others = [Shape(layers, width, 48, 4) for layers, width in ((1, 16), (2, 16), (3, 16), (1, 24), (2, 24))]
    timed = time_shapes(config, others, [8], threads=1)
    assert all(entry.ms[8] > 0 for entry in timed)
    own, wrong = PriceList(tuple(timed), config), PriceList(tuple(timed), {**config, "vocab_size": VOCABULARY})
    shape = Shape(3, 24, 48, 4)
    assert own.size_bytes(shape) == pytest.approx(real.weight_bytes, rel=0.02)
    assert wrong.size_bytes(shape) > 1.2 * real.weight_bytes


def test_the_size_of_a_trimmed_vocabulary_in_few_bits_is_that_of_the_real_file(tmp_path: Path) -> None:
    config = {"model_type": "bert", **CONFIG, "vocab_size": 9000, "max_position_embeddings": 512}
    others = [Shape(layers, width, 48, 4) for layers, width in ((1, 16), (2, 16), (1, 24), (2, 24))]
    listed, shape = PriceList(tuple(time_shapes(config, others, [8], threads=1)), config), Shape(1, 24, 48, 4)
    cut = {**config, "vocab_size": 4000, "max_position_embeddings": 64}
    model, fp32, int8 = build({**cut, **sizes_of(shape)}, attention="eager"), tmp_path / "fp32", tmp_path / "int8"
    export_fp32(model, fp32)
    ids, gradients = np.arange(COMMON_ROWS), np.random.default_rng(0).normal(size=(8, 24)).astype(np.float32)
    text = EncodedTexts([ids[:64]], [np.zeros_like(ids[:64])], np.zeros(1, dtype=bool), pad_id=0)
    inputs = collect_inputs(fp32, linear_inputs(onnx.load(fp32)), text, np.zeros(1, dtype=np.int64))
    for bits in (4, 2):
        words, more = LowBitSettings.of(gradients, ids, bits), dict[bool, int]()
        for fixed in (True, False):  # a student that was finished under rounding has one scale a token
            graph = quantize_graph(onnx.load(fp32), count_layers(model), inputs if fixed else None, words)[0]
            save_graph(graph, int8)
            more[fixed] = int8.stat().st_size - listed.size_bytes(shape, bits, cut)
        assert abs(more[True]) < 150
        assert 0.5 * SPARE < more[False] / 1e6 < SPARE


def test_a_design_reaches_to_the_ends_and_leaves_out_what_takes_long() -> None:
    shapes = design(GRID)
    assert len(shapes) == len(set(shapes)) == prices.MEASURED
    weights = sorted(map(linear_weights, GRID))
    assert {weights[0], weights[-1]} <= set(map(linear_weights, shapes))
    large = design(shape_grid(Shape(12, 768, 3072, 12)))
    assert max(map(linear_weights, large)) <= prices.MOST_WEIGHTS
    assert design(GRID[:3]) == GRID[:3]


def test_marked_lengths_are_rounded_up() -> None:
    assert marked_lengths(np.arange(120)) == [8, 48, 88, 119], "none is longer than the longest text"
    assert marked_lengths(np.full(9, 12)) == [12]


def test_a_price_list_is_measured_once_for_a_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured = list[int]()

    def known(_: Any, shapes: Sequence[Shape], lengths: Sequence[int], threads: int) -> list[Timed]:
        measured.append(threads)
        return [Timed(shape, dict.fromkeys(lengths, 0.1 * shape.layers), 1000) for shape in shapes]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(prices, "time_shapes", known)
    data = {length: np.array([length] * 99 + [64]) for length in (12, 16, 20)}
    lists = [measured_price_list(CONFIG, GRID, data[length], 1) for length in (12, 16)]
    assert (lists[0], measured) == (lists[1], [1])
    measured_price_list({**CONFIG, "vocab_size": 7}, GRID, data[12], 1)
    assert measured == [1], "no run reads more of the vocabulary"
    measured_price_list(CONFIG, GRID, data[12], 2)
    measured_price_list(CONFIG, GRID, data[20], 1)
    assert measured == [1, 2, 1]
