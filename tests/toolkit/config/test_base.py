"""Every fault of a command's options at once, and options that come back from JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from toolkit.config import BenchConfig, Config, DistillConfig, ExportConfig, FinetuneConfig
from toolkit.errors import ToolkitError

FINETUNE = FinetuneConfig(model="bert-base-uncased", task="sst2", out="out")
DISTILL = DistillConfig(teacher="teacher", task="sst2", out="out")
GENERAL = DistillConfig(teacher="encoder", task=None, out="out", general=True, corpus=("c.txt",))
EXPORT = ExportConfig(source="student", out="out")
BENCH = BenchConfig(bundles=("student",))


@pytest.mark.parametrize("config", [FINETUNE, DISTILL, GENERAL, EXPORT, BENCH])
def test_defaults_have_no_fault_and_go_through_json(config: Config) -> None:
    config.check()
    stored = json.loads(json.dumps(config.to_dict()))
    assert type(config)(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}) == config


def test_all_faults_come_at_once() -> None:
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
    ("config", "fault"),
    [
        (replace(FINETUNE, epochs=0), "--epochs 0: expected 1 or more"),
        (replace(FINETUNE, lr=math.nan), "--lr nan: expected more than 0"),
        (replace(FINETUNE, seed=-1), "--seed -1: expected 0 or more"),
        (replace(FINETUNE, weight_decay=-0.1), "--weight-decay -0.1: expected 0 up to 1"),
        (replace(FINETUNE, max_rows=0), "--max-rows 0: expected 1 or more"),
        (replace(DISTILL, loss="attention=0,hidden=0,embedding=0,prediction=0"), "nothing would be learnt"),
        (replace(DISTILL, objective="prediction", loss="prediction=0"), "nothing would be learnt"),
        (replace(DISTILL, loss="embedding=nan"), "--loss embedding=nan: expected a weight of 0 or more"),
        (replace(DISTILL, loss="hidden=1,hidden=2"), "--loss hidden=2: hidden is given twice"),
        (replace(DISTILL, loss="colour=1"), "--loss colour=1: expected NAME=WEIGHT, NAME one of attention, "),
        (replace(DISTILL, loss="label=1", augment="x.parquet"), "--loss label=1 with --augment"),
        (replace(DISTILL, objective="all"), "--objective all: expected one of tinybert, relations, prediction"),
        (replace(DISTILL, objective="relations", relation_heads=0), "--relation-heads 0: expected 1 or more"),
        (replace(DISTILL, seeds="1;2"), "--seeds 1;2: expected a list such as 1,2,3"),
        (replace(DISTILL, corpus=("c.txt",)), "--corpus is what --general learns from"),
        (replace(DISTILL, task=None), "no --task: expected a GLUE task"),
        (replace(GENERAL, corpus=()), "--general without --corpus"),
        (
            replace(GENERAL, task="sst2", data="d", seeds="1,2", prediction_epochs=1, temperature=2.0, loss="label=1"),
            "--general takes no --task, --data, --temperature, --prediction-epochs, --seeds, --loss label: ",
        ),
        (replace(EXPORT, precision="int4"), "precision int4: expected one of int8, "),
        (replace(EXPORT, max_pieces=9), "--max-pieces 9: expected --trim-vocabulary"),
        (replace(EXPORT, max_pieces=0, trim_vocabulary=("a.txt",)), "--max-pieces 0: expected 1 or more"),
        (replace(EXPORT, max_drop=math.nan), "--max-drop nan: expected 0 or more points"),
        (replace(BENCH, bundles=()), "no bundle given"),
        (replace(BENCH, device="tpu"), "--device tpu: expected one of cpu, cuda"),
        (replace(BENCH, batch_sizes=(1, 0)), "--batch-size 0: expected 1 or more"),
        (replace(BENCH, length=1), "--length 1: expected 2 or more"),
        (replace(BENCH, speed_claim=0.0), "--speed-claim 0.0: expected more than 0"),
    ],
)
def test_each_fault_alone(config: Config, fault: str) -> None:
    with pytest.raises(ToolkitError, match="1 problem\n") as caught:
        config.check()
    assert fault in str(caught.value)


@pytest.mark.parametrize("student", ["tinybert4", "tinybert6", "4/312/1200/12"])
@pytest.mark.parametrize("layer_map", ["uniform", "top", "bottom", "3,6,9,12", "12"])
def test_what_the_help_promises_is_accepted(student: str, layer_map: str) -> None:
    replace(DISTILL, student=student, layer_map=layer_map).check()


def test_auto_with_data_is_accepted() -> None:
    replace(FINETUNE, task="auto", data="reviews").check()
