"""The points of a frontier: the teacher, and students with and without a bundle."""

from __future__ import annotations

from pathlib import Path

from tests.toolkit.compression.test_answer import KnownBundles
from tests.toolkit.compression.test_search import PROMISING, SHAPES, SHORT, WHOLE, Known, ignore, plan
from toolkit.compression.budget import Cost
from toolkit.compression.bundles import Finished, under_rounding
from toolkit.compression.frontier import read_frontier
from toolkit.compression.points import Points
from toolkit.models.student import Shape

FIRST, SECOND, *_ = PROMISING


def test_every_training_with_a_bundle_is_a_point_and_every_other_student_as_far_as_it_came(tmp_path: Path) -> None:
    search = Known(tmp_path, dict(zip(PROMISING, (80.0, 70.0, 60.0, 50.0), strict=True)))
    search.remember("teacher", 90.0)
    search.remember("metric", "accuracy")
    search.train_candidates(plan(), ignore)
    bundles = KnownBundles(search, {})
    for epochs, cost in ((SHORT, Cost(0.5, 2.0, 11.0)), (WHOLE, Cost(0.6, 3.0, 9.5))):
        options = search.training_of(FIRST, epochs)
        trainings = (options, under_rounding(options)) if epochs == WHOLE else (options,)
        bundles.finished[FIRST, epochs] = Finished(FIRST, epochs, None, 90 - cost.drop, cost, trainings)  # type: ignore[arg-type,operator]
    Points(bundles, (9.0, 90.0)).write(None)
    metric, points = read_frontier(tmp_path)
    assert metric == "accuracy"
    assert [point.latency_ms for point in points] == sorted(point.latency_ms for point in points)
    by_role = {role: [point for point in points if point.role == role] for role in ("teacher", "start", "trial")}
    assert [(point.name, point.dev, point.latency_ms) for point in by_role["teacher"]] == [("4/48/192/4", 90.0, 9.0)]
    assert {point.name for point in by_role["start"]} == set(map(str, SHAPES[:4]))
    assert {(point.name, point.dev) for point in by_role["trial"]} == {
        (str(shape), score) for shape, score in zip(PROMISING[1:], (70.0, 60.0, 50.0), strict=True)
    }
    finished = {point.training: point for point in points if point.role == "finished"}
    assert {words: (point.dev, point.latency_ms, point.size_mb) for words, point in finished.items()} == {
        "1 + 1 epochs": (79.0, 0.5, 2.0), "3 + 3 epochs, then 1 in int8": (80.5, 0.6, 3.0),
    }  # fmt: skip
    commands = finished["3 + 3 epochs, then 1 in int8"].command.split(" && ")
    assert [command.split()[1] for command in commands] == ["distill", "distill", "export"]
    assert "--quantization-aware" in commands[1]
    assert finished["1 + 1 epochs"].command.count("&&") == 1


def test_a_shape_of_the_paper_is_a_point_though_no_time_was_left_to_score_its_start(tmp_path: Path) -> None:
    shape = Shape(4, 48, 192, 4)
    search = Known(tmp_path, {shape: 77.0})
    search.remember("teacher", 90.0)
    points = Points(KnownBundles(search, {}), (9.0, 90.0))
    search.train_references([shape], lambda *_: points.write(None))
    assert ("4/48/192/4", "trial", 77.0) in {
        (point.name, point.role, point.dev) for point in read_frontier(tmp_path)[1]
    }
