"""Options of `toolkit distill`: every problem at once, and defaults that the task and other options decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.problems import only_problem
from toolkit.config import DistillConfig
from toolkit.errors import ToolkitError

DISTILL = DistillConfig(teacher="teacher", task="sst2", out="out")
GENERAL = DistillConfig(teacher="encoder", task=None, out="out", general=True, corpus=("c.txt",))


def test_all_problems_come_at_once() -> None:
    bad = replace(
        DISTILL, batch_size=0, temperature=0.0, dropout=1.0, loss="hidden=-1", student="tiny", layer_map="3,x",
        warmup=1.5,
        prediction_lr=0.0, intermediate_epochs=-1, max_length=2, task="auto",
    )  # fmt: skip
    with pytest.raises(ToolkitError) as caught:
        bad.check()
    text = str(caught.value)
    assert "11 problems" in text
    for option in (
        "--batch-size 0", "--temperature 0.0", "--dropout 1.0", "--loss hidden=-1", "--student tiny", "--layer-map 3,x",
        "--warmup 1.5", "--prediction-lr 0.0", "--intermediate-epochs -1", "--max-length 2", "--task auto",
    ):  # fmt: skip
        assert f"  - {option}: expected" in text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"loss": "attention=0,hidden=0,embedding=0,prediction=0"}, "nothing would be learnt"),
        ({"objective": "prediction", "loss": "prediction=0"}, "nothing would be learnt"),
        ({"loss": "embedding=nan"}, "--loss embedding=nan: expected a weight of 0 or more"),
        ({"loss": "hidden=1,hidden=2"}, "--loss hidden=2: hidden is given twice"),
        ({"loss": "colour=1"}, "--loss colour=1: expected NAME=WEIGHT, NAME one of attention, "),
        ({"loss": "label=1", "augment": "x.parquet"}, "--loss label=1 with --augment"),
        ({"objective": "all"}, "--objective all: expected one of tinybert, relations, prediction"),
        ({"objective": "relations", "relation_heads": 0}, "--relation-heads 0: expected 1 or more"),
        ({"seeds": "1;2"}, "--seeds 1;2: expected a list such as 1,2,3"),
        ({"corpus": ("c.txt",)}, "--corpus is what --general learns from"),
        ({"task": None}, "no --task: expected a GLUE task"),
        ({"quantization_aware": True, "prediction_epochs": 0}, "--quantization-aware: expected a prediction stage"),
        (
            {"quantization_aware": True, "precision": "bf16"},
            "--precision bf16: --quantization-aware needs fp32",
        ),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(replace(DISTILL, **options))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"corpus": ()}, "--general without --corpus"),
        (
            {
                "task": "sst2", "data": "d", "seeds": "1,2", "prediction_epochs": 1, "temperature": 2.0,
                "loss": "label=1",
            },
            "--general takes no --task, --data, --temperature, --prediction-epochs, --seeds, --loss label: ",
        ),
    ],
)  # fmt: skip
def test_each_problem_of_general_distillation_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(replace(GENERAL, **options))


@pytest.mark.parametrize("student", ["tinybert4", "tinybert6", "4/312/1200/12"])
@pytest.mark.parametrize("layer_map", ["uniform", "top", "bottom", "3,6,9,12", "12"])
def test_what_the_help_promises_is_accepted(student: str, layer_map: str) -> None:
    replace(DISTILL, student=student, layer_map=layer_map).check()


def test_weights_are_the_objective_s_but_for_those_of_loss() -> None:
    on = {name for name, weight in DISTILL.weights.items() if weight}
    assert on == {"attention", "hidden", "embedding", "prediction"}
    weights = replace(DISTILL, objective="relations", loss="label=0.5,prediction=0").weights
    assert {name: weight for name, weight in weights.items() if weight} == {"relations": 1.0, "label": 0.5}
    assert {name for name, weight in GENERAL.weights.items() if weight} == {"attention", "hidden", "embedding"}


def test_defaults_are_filled_in_by_task_start_and_stage() -> None:
    config = DISTILL.resolved()
    assert (config.student, config.intermediate_epochs, config.prediction_epochs) == ("4/312/1200/12", 3, 3)
    assert (config.intermediate_lr, config.prediction_lr, config.accumulation) == (2e-4, 5e-5, 1)
    assert config.loss == "attention=1,hidden=1,embedding=1,relations=0,prediction=1,label=0"
    assert config.resolved() == config
    drawn = replace(DISTILL, init="random").resolved()
    assert (drawn.intermediate_epochs, drawn.intermediate_lr) == (20, 5e-5)
    assert replace(DISTILL, prediction_epochs=0).resolved().prediction_epochs == 0, "0 is a choice, not a default"
    general = GENERAL.resolved()
    assert (general.intermediate_epochs, general.intermediate_lr, general.accumulation) == (3, 5e-5, 8)
    assert (general.prediction_epochs, general.prediction_lr) == (None, None)


def test_a_family_that_is_not_known_is_named() -> None:
    with pytest.raises(ToolkitError, match="--student-family mpnet: expected one of auto, bert, teacher"):
        replace(DISTILL, student_family="mpnet").check()
