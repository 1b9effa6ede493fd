"""Who goes on in a search, in what order, and what it does with its time; trainings have known results here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.toolkit.compression.test_prices import CONFIG as STUDENT
from tests.toolkit.compression.test_prices import known_list
from toolkit.compression.budget import Budget
from toolkit.compression.material import Material
from toolkit.compression.plan import Plan
from toolkit.compression.prices import design
from toolkit.compression.search import Search, dev_score, student_folder
from toolkit.compression.shapes import shape_grid
from toolkit.compression.trainings import Epochs
from toolkit.config import CompressConfig
from toolkit.errors import ToolkitError
from toolkit.models.student import Shape

TEACHER = Shape(4, 48, 192, 4)
SHAPES = [Shape(layers, width, 64, 4) for layers in (1, 2, 3, 4) for width in (16, 32)]
STARTS = dict(zip(map(str, SHAPES), (50.0, 51.0, 52.0, 53.0, 60.0, 61.0, 62.0, 63.0), strict=True))
SHORT, WHOLE = (1, 1), (3, 3)  # epochs of both stages
PROMISING = SHAPES[:3:-1]  # the four that start best, the best first


class Known(Search):
    """A search whose trainings take no time; each is written down and has a known score."""

    def __init__(self, out: Path, scores: dict[Shape, float], **options: Any) -> None:
        material = Material(TEACHER, STUDENT, np.full(1000, 20), 0.0)
        config = CompressConfig("teacher", "auto", str(out), data="d", max_size_mb=1.0, **options)
        out.mkdir(exist_ok=True)
        super().__init__(config, material)
        self.scores, self.trained = scores, list[tuple[Shape, Any]]()
        self.dies_at: int | None = None
        self.remember("starts", STARTS)

    def train(self, shape: Shape, epochs: Epochs) -> Any:
        if len(self.trained) == self.dies_at:
            raise KeyboardInterrupt
        self.trained.append((shape, epochs))
        metrics = {"accuracy": self.scores[shape] / 100}
        return SimpleNamespace(manifest={"split": "dev", "metrics": metrics, "task": {"metrics": ["accuracy"]}})


def ignore(shape: Shape, epochs: Epochs) -> None:
    """Hear that a training has ended."""


def plan() -> Plan:
    return Plan(Budget(None, 1.0, None), known_list(design(shape_grid(TEACHER))), (), tuple(SHAPES), (20,))


def test_the_half_that_starts_best_is_trained_and_the_better_ones_train_on(tmp_path: Path) -> None:
    search = Known(tmp_path, dict(zip(PROMISING, (70.0, 60.0, 80.0, 75.0), strict=True)))
    search.train_candidates(plan(), ignore)
    first, second, third, fourth = PROMISING
    # the best start has no rival yet; the second loses to it; the third is the best so far; of four one goes on
    assert search.trained == [
        (first, SHORT), (first, WHOLE), (second, SHORT), (third, SHORT), (third, WHOLE), (fourth, SHORT),
    ]  # fmt: skip
    states = [trial.state for trial in search.study.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.PRUNED]
    assert search.ranking(SHAPES)[:4] == [third, first, fourth, second]
    assert search.score_of(second) == (60.0, SHORT)
    assert search.score_of(SHAPES[0]) == (50.0, (0, 0))


@pytest.mark.parametrize("dies_at", range(6))
def test_wherever_it_dies_it_goes_on_and_pays_for_nothing_twice(tmp_path: Path, dies_at: int) -> None:
    scores = dict(zip(PROMISING, (70.0, 60.0, 80.0, 75.0), strict=True))
    search = Known(tmp_path, scores)
    search.dies_at = dies_at
    with pytest.raises(KeyboardInterrupt):
        search.train_candidates(plan(), ignore)
    again = Known(tmp_path, scores)
    again.train_candidates(plan(), ignore)
    whole = Known(tmp_path / "whole", scores)
    whole.train_candidates(plan(), ignore)
    assert search.trained + again.trained == whole.trained
    assert again.ranking(SHAPES) == whole.ranking(SHAPES)


def test_time_for_the_whole_training_is_set_aside(tmp_path: Path) -> None:
    search = Known(tmp_path, dict.fromkeys(PROMISING, 70.0), hours=1.0)
    search.material = replace(search.material, seconds_per_weight=1e9)
    search.train_candidates(plan(), ignore)
    assert search.trained == []
    search.material = replace(search.material, seconds_per_weight=0.0)
    search.train_candidates(plan(), ignore)
    assert search.trained
    assert search.has_time(SHAPES[0], (1, 1))
    search._earlier = 3601.0
    assert not search.has_time(SHAPES[0], (1, 1)), "what earlier commands took counts"


def test_the_papers_shapes_are_compared_after_as_long_a_training_as_each_trial_had(tmp_path: Path) -> None:
    other = Shape(4, 48, 192, 4)
    search = Known(tmp_path, {other: 77.0})
    search.train_references([other], ignore)
    assert search.trained == [(other, SHORT)]
    assert search.score_of(other) == (77.0, SHORT)
    search._earlier = 1e9
    search.train_references([SHAPES[0]], ignore)
    assert len(search.trained) == 1, "there was no time"


def test_starts_are_scored_in_a_third_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Known(tmp_path, {}, hours=1.0)
    search.remember("starts", {})

    def known(shapes: list[Shape], _: Path) -> Iterator[tuple[Shape, float]]:
        for shape in shapes:
            search._earlier += 500.0
            yield shape, 50.0

    monkeypatch.setattr(search, "_starts", known)
    search.score_starts(SHAPES)
    assert list(search.starts) == SHAPES[:3], "1,500 s are the first time beyond 1,200"
    search.score_starts(SHAPES)
    assert list(search.starts) == SHAPES[:4], "called again it goes on, at least one further"


def test_a_folder_of_other_options_is_refused_and_more_hours_are_none(tmp_path: Path) -> None:
    Known(tmp_path, {}, hours=1.0)
    Known(tmp_path, {}, hours=2.0)
    with pytest.raises(ToolkitError, match="holds a search by other options"):
        Known(tmp_path, {}, seed=1)


def test_the_score_on_dev_is_found_beside_that_on_test() -> None:
    task: Any = {"metrics": ["accuracy"]}
    dev: Any = {"split": "dev", "metrics": {"accuracy": 0.5}, "task": task}
    both: Any = {
        "split": "test",
        "metrics": {"accuracy": 0.4},
        "dev_scores": {"metrics": {"accuracy": 0.6}},
        "task": task,
    }
    assert (dev_score(dev), dev_score(both)) == (50.0, 60.0)


def test_each_training_has_a_folder() -> None:
    assert student_folder(Path("o"), SHAPES[0], (1, 2)) == Path("o/1-16-64-4/epochs-1-2")


def test_a_search_goes_on_with_the_text_that_it_trims_by_and_one_of_before_that_option_without(
    tmp_path: Path,
) -> None:
    Known(tmp_path / "trimmed", {}, trim_vocabulary=("more.txt",))
    Known(tmp_path / "trimmed", {}, trim_vocabulary=("more.txt",))
    search = Known(tmp_path / "old", {})
    options = search.recall("options", {})
    search.remember("options", {name: value for name, value in options.items() if name != "trim_vocabulary"})
    for folder, files in (("trimmed", ()), ("old", ("more.txt",))):
        with pytest.raises(ToolkitError, match="holds a search by other options"):
            Known(tmp_path / folder, {}, trim_vocabulary=files)
    Known(tmp_path / "old", {})
