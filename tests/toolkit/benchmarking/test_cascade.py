"""Cascades over all thresholds: worked out by hand, against the naive way, and by the real command."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.support.arithmetic_bundles import SUM, save_arithmetic
from tests.support.command_line import refused, toolkit
from tests.support.data import rows, write_csv
from toolkit.benchmarking.cascade import Costs, PairedAnswers, all_points, guaranteed_point
from toolkit.inference.predictor import open_predictor

COSTS = Costs(1.0, 10.0)


def answers(best: list[float], right: list[bool], second: list[bool]) -> PairedAnswers:
    """Two labels, of which the student gives the first with `best`; what is right follows from `right`."""
    scores = np.array([[value, 1 - value] for value in best])
    truth = np.array([0 if own else 1 for own in right])
    return PairedAnswers(
        scores, np.array([int(t) if own else 1 - int(t) for t, own in zip(truth, second, strict=True)]), truth
    )


def test_four_rows_by_hand() -> None:
    own = answers([0.9, 0.6, 0.8, 0.6], [True, False, True, True], [True, True, False, True])
    points = [list(asdict(point).values()) for point in all_points(own, COSTS)]
    np.testing.assert_allclose([point[1:] for point in points], [
        [1.0, 0.75, 0.5, 1.0],  # answered, accuracy, agreement, cost
        [0.5, 1.0, 0.75, 6.0],  # both rows of 0.6, of which the teacher rights one
        [0.25, 0.75, 1.0, 8.5],  # and that of 0.8, which it spoils
        [0.0, 0.75, 1.0, 11.0],
    ])  # fmt: skip
    assert [point[0] for point in points] == [0.6, 0.8, 0.9, None]


ROWS = st.lists(st.tuples(st.sampled_from([0.55, 0.6, 0.7, 0.8, 1.0]), st.booleans(), st.booleans()), min_size=1)


@given(ROWS)
def test_every_point_is_what_the_naive_cascade_gives(drawn: list[tuple[float, bool, bool]]) -> None:
    own = answers(*map(list, zip(*drawn, strict=True)))  # type: ignore[arg-type]
    points = all_points(own, COSTS)
    assert [point.threshold for point in points] == [*sorted({best for best, _, _ in drawn}), None]
    for point in points:
        asked = [point.threshold is None or best < point.threshold for best, _, _ in drawn]
        right = [teacher if ask else student for ask, (_, student, teacher) in zip(asked, drawn, strict=True)]
        assert point.accuracy == pytest.approx(sum(right) / len(drawn))
        assert point.cost_ms == pytest.approx(1 + 10 * sum(asked) / len(drawn))
        if point.threshold is not None:
            assert asdict(guaranteed_point(own, COSTS, np.full(2, point.threshold))) == pytest.approx(asdict(point))


def test_labels_may_have_thresholds_of_their_own() -> None:
    own = PairedAnswers(np.array([[0.7, 0.3], [0.3, 0.7]]), np.array([1, 0]), np.array([0, 1]))
    point = guaranteed_point(own, COSTS, np.array([0.6, np.inf]))
    assert (point.threshold, point.answered, point.accuracy, point.agreement) == (None, 0.5, 0.5, 0.5)


def test_the_command_weighs_two_bundles(overconfident: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", rows(40, seed=8))
    command = ("cascade", overconfident, tiny_onnx, "--data", tmp_path / "rows.csv", "--queries", "4", "--rounds", "1")
    result = toolkit(*command, "--out", tmp_path / "out", "--cpu-hour-price", "0.36")
    assert result.returncode == 0, result.stderr
    assert "no point is guaranteed" in result.stdout
    report = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))
    predictor = open_predictor(tiny_onnx, threads=1)
    labels = predictor.predict([text for text, _ in rows(40, seed=8)]).argmax(axis=1)
    accuracy = float((labels == [label for _, label in rows(40, seed=8)]).mean())
    assert {point["accuracy"] for point in report["curve"]} == {accuracy}, "both bundles have the same weights"
    assert {point["agreement"] for point in report["curve"]} == {1.0}
    assert (report["rows"], report["guaranteed"], report["split"]) == (40, None, "rows.csv")
    assert min(report["student_ms"], report["teacher_ms"]) > 0
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "price of a million" in page
    assert "<svg" in page


def test_what_cannot_be_weighed_is_refused(
    overconfident: Path, tiny_onnx: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    number = save_arithmetic(tmp_path / "number", tokenizer, SUM)
    write_csv(tmp_path / "rows.csv", rows(4, seed=8))
    data = ("--data", tmp_path / "rows.csv", "--out", tmp_path / "out")
    assert "is a regression model" in refused(toolkit("cascade", overconfident, number, *data))
    assert "no such" in refused(toolkit("cascade", tmp_path / "gone", tiny_onnx, *data))
    assert not (tmp_path / "out").exists()
