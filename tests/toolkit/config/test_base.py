"""The base of options: they come back from JSON, and their checks give each problem in words."""

from __future__ import annotations

import json

import pytest

from toolkit.config import (
    AugmentConfig,
    BenchConfig,
    Config,
    DemoConfig,
    DistillConfig,
    ExportConfig,
    FinetuneConfig,
    ServeConfig,
)  # fmt: skip
from toolkit.config.base import at_least, fraction, positive, task_problems
from toolkit.errors import ToolkitError

CONFIGS = [
    FinetuneConfig("bert-base-uncased", "sst2", "out"), DistillConfig("teacher", "sst2", "out"),
    DistillConfig("encoder", None, "out", general=True, corpus=("c.txt",)), ExportConfig("student", "out"),
    BenchConfig(("student",)), AugmentConfig("sst2", "out.parquet"), ServeConfig(("int8",)), DemoConfig(),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_defaults_have_no_problem_and_go_through_json(config: Config) -> None:
    config.check()
    stored = json.loads(json.dumps(config.to_dict()))
    assert type(config)(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}) == config


def test_bounds_are_part_of_what_is_accepted() -> None:
    assert list(at_least(1, epochs=1, max_rows=None)) == []
    assert list(at_least(2, max_rows=1, epochs=0)) == [
        "--max-rows 1: expected 2 or more", "--epochs 0: expected 2 or more",
    ]  # fmt: skip
    assert list(positive(lr=1e-9, rate=None)) == []
    assert list(positive(lr=0.0, rate=float("nan"))) == [
        "--lr 0.0: expected more than 0", "--rate nan: expected more than 0",
    ]  # fmt: skip
    assert list(fraction(warmup=0.0, dropout=0.99)) == []
    assert list(fraction(warmup=1.0)) == ["--warmup 1.0: expected 0 up to 1"]


def test_a_task_is_in_the_table_or_has_files() -> None:
    for task, data in (("sst2", None), ("auto", "folder"), (None, None)):
        assert list(task_problems(task, data, "train files")) == []
    assert list(task_problems("auto", None, "train files")) == ["--task auto: expected --data DIR with train files"]
    (problem,) = task_problems("sst3", "folder", "train files")
    assert problem.startswith("--task sst3: expected one of cola, sst2, ")


def test_a_configuration_must_list_its_problems() -> None:
    with pytest.raises(TypeError, match="Config lists no problems"):
        Config().check()


def test_problems_come_in_one_error() -> None:
    class Broken(Config):
        def problems(self):  # type: ignore[no-untyped-def]
            yield from ("first", "second")

    with pytest.raises(ToolkitError) as caught:
        Broken().check()
    assert str(caught.value) == "these options cannot be used: 2 problems\n  - first\n  - second"
