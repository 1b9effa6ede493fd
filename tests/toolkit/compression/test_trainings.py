"""The options and epochs of trainings, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toolkit.compression.trainings import rungs, training, training_from, whole_epochs
from toolkit.config import CompressConfig

CONFIG = CompressConfig("teacher", "rotten-tomatoes", "out", max_size_mb=1.0, seed=7, unlabelled="more.txt")


def test_a_training_has_the_options_of_the_search() -> None:
    config = training(CONFIG, "2/48/192/12", "somewhere", (1, 2))
    config.check()
    assert (config.teacher, config.student, config.out) == ("teacher", "2/48/192/12", "somewhere")
    assert (config.seed, config.unlabelled) == (7, "more.txt")
    assert (config.intermediate_epochs, config.prediction_epochs) == (1, 2)


def test_a_short_training_decides_and_a_whole_one_follows() -> None:
    assert (whole_epochs(CONFIG), rungs(CONFIG)) == ((3, 1), [(1, 1), (3, 1)])
    own = replace(CONFIG, task="auto", data="reviews")
    assert (whole_epochs(own), rungs(own)) == ((3, 3), [(1, 1), (3, 3)])


def test_a_training_that_goes_on_from_a_projection_has_its_epochs_and_rates() -> None:
    own = training(CONFIG, "2/48/192/12", "o", None)
    going_on = training_from(Path("start"), own).resolved()
    assert going_on == replace(own.resolved(), init="start")
    assert (going_on.intermediate_epochs, going_on.intermediate_lr) == (3, 2e-4), "not those of a foreign start"
