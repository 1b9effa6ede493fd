"""The task table against the paper and the hub, and what a bundle keeps of a task."""

from __future__ import annotations

import json

import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.inference.metrics import evaluate
from toolkit.tasks import TASKS, Task, get_task

# Section 4.2 and appendix of arXiv 1909.10351: epochs of the intermediate stage, N_a, max length.
PAPER = {
    "cola": (50, 30, 64), "sst2": (20, 20, 64), "mrpc": (20, 30, 128), "stsb": (20, 30, 128), "qqp": (10, 10, 128),
    "mnli": (10, 10, 128), "qnli": (10, 20, 128), "rte": (20, 30, 128),
}  # fmt: skip
# ClassLabel names of nyu-mll/glue, in order; a different order here would score as chance or worse.
HUB_LABELS = {
    "cola": ["unacceptable", "acceptable"], "sst2": ["negative", "positive"], "mrpc": ["not_equivalent", "equivalent"],
    "qqp": ["not_duplicate", "duplicate"], "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"], "rte": ["entailment", "not_entailment"],
    "wnli": ["not_entailment", "entailment"],
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_settings(name: str) -> None:
    task = get_task(name)
    assert (task.intermediate_epochs, task.copies, task.max_length) == PAPER[name]


@pytest.mark.parametrize("name", HUB_LABELS)
def test_labels_stand_in_the_hub_s_order(name: str) -> None:
    assert list(get_task(name).labels) == HUB_LABELS[name]


def test_what_a_model_answers_is_said_in_words() -> None:
    assert get_task("sst2").answers == "2 classes: negative, positive"
    assert get_task("stsb").answers == "a number"
    assert Task("t", ("a", "b", "c"), kind="multi_label").answers == "any of 3 labels: a, b, c"
    assert Task("t", tuple(map(str, range(12)))).answers == "12 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_glue_is_complete_and_every_metric_exists() -> None:
    assert set(TASKS) == {*HUB_LABELS, "stsb", "rotten-tomatoes"}
    names = {"accuracy", "f1", "matthews_correlation", "pearson", "spearman"}
    assert {metric for task in TASKS.values() for metric in task.metrics} == names
    for task in TASKS.values():
        labels = np.arange(4) % max(len(task.labels), 2)
        assert set(evaluate(task, np.eye(4)[:, : len(task.labels)], labels)) == set(task.metrics)
    assert (get_task("cola").metric, get_task("stsb").metric) == ("matthews_correlation", "spearman")


@pytest.mark.parametrize("name", TASKS)
def test_pairs_and_tsv_columns_agree(name: str) -> None:
    task = get_task(name)
    assert (task.pair_column is None) == (task.tsv[1] is None)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ToolkitError, match="unknown task 'sst-2'") as caught:
        get_task("sst-2")
    assert all(name in caught.value.expected for name in TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_table_task_comes_back_whole_from_a_bundle(name: str) -> None:
    task = get_task(name)
    assert Task.from_dict(json.loads(json.dumps(task.to_dict())), task.max_length) == task


@pytest.mark.parametrize("pair", [None, "text_pair"])
def test_a_folder_s_own_task_comes_back_whole_from_a_bundle(pair: str | None) -> None:
    task = Task(
        "auto", ("a", "b", "c"), metrics=("accuracy", "f1"), pair_column=pair, tsv=("text", pair, "label"),
        max_length=40,
    )  # fmt: skip
    assert Task.from_dict(json.loads(json.dumps(task.to_dict())), 40) == task


def test_a_bundle_written_before_pairs_were_kept_still_opens() -> None:
    stored = {"name": "auto", "kind": "regression", "labels": ["score"], "metrics": ["pearson"]}
    task = Task.from_dict(stored, 32)
    assert (task.kind, task.pair_column, task.tsv) == ("regression", None, ("text", None, "label"))
