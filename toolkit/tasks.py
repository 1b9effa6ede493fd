"""Tasks: GLUE's nine, the embedded default, and the fields that every task has.

Labels stand in the order of the model's outputs, as the hub's `nyu-mll/glue` numbers them. Epochs of the
intermediate stage and lengths are the paper's (arXiv 1909.10351, section 4.2 and appendix). Copies of augmentation
(N_a) are the reference code's: the paper has 20 for every task. Those of `rotten-tomatoes` are this project's: two
cores finish in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from typing_extensions import TypedDict

from toolkit.errors import ToolkitError, some

MAX_LENGTH = 8192  # tokens of an input: attention takes memory by its square
Kind = Literal["classification", "regression", "multi_label"]


class TaskRecord(TypedDict):
    """The entries of a task that a bundle keeps: enough to serve and to score."""

    name: str
    """Name of the task."""
    kind: Kind
    """How logits become scores: softmax, a sigmoid for each label, or the number itself."""
    labels: list[str]
    """Class names in the order of the logits; one name for regression."""
    metrics: list[str]
    """Names of its metrics; the first one selects the best step."""
    pair: bool
    """Whether an input is a pair of texts."""


class ClassScore(TypedDict):
    """How well a class is recognized on some rows: the rows that have it, and fractions from 0 to 1."""

    rows: int
    """Rows that have the class."""
    precision: float
    """Share of the rows that get the class that have it."""
    recall: float
    """Share of the rows that have the class that get it."""
    f1: float
    """Harmonic mean of the two."""


@dataclass(frozen=True)
class Task:
    """One task of a classifier.

    Attributes:
        name: as on the command line; of a task of one's own the name of its data, or what --name says.
        labels: class names in the order of the logits; one name ("score") for regression.
        kind: how logits become scores: softmax, the number itself, or a sigmoid for each label.
        metrics: names that `toolkit.inference.metrics` knows; the first one selects the best step.
        max_length: tokens, special ones included; longer inputs are truncated.
        text_column, pair_column, label_column: names in the hub's dataset.
        tsv: the same three by their names in the official TSV header, or by number if it has no header.
        dev_split: the hub's name of the dev split (MNLI: matched).
        intermediate_epochs, prediction_epochs: of the two stages of task distillation.
        copies: N_a, augmented copies of each training row.
    """

    name: str
    labels: tuple[str, ...]
    kind: Kind = "classification"
    metrics: tuple[str, ...] = ("accuracy",)
    max_length: int = 128
    text_column: str = "text"
    pair_column: str | None = None
    label_column: str = "label"
    tsv: tuple[str | int, str | int | None, str | int] = ("text", None, "label")
    dev_split: str = "validation"
    intermediate_epochs: int = 10
    prediction_epochs: int = 3
    copies: int = 20

    @property
    def metric(self) -> str:
        """The metric that selects the best step and that gates are stated in."""
        return self.metrics[0]

    @property
    def answers(self) -> str:
        """Say what a model of it answers, such as "2 classes: negative, positive"."""
        if self.kind == "regression":
            return "a number"
        labels = f"{len(self.labels):,} {'classes' if self.kind == 'classification' else 'labels'}: {some(self.labels)}"
        return labels if self.kind == "classification" else f"any of {labels}"

    @property
    def option(self) -> str:
        """The value of --task for it: its name in the table, or auto."""
        return self.name if self.name in TASKS else "auto"

    def to_dict(self) -> TaskRecord:
        """Give what serving and scoring need, as a bundle keeps it; nothing about where data lies."""
        return {
            "name": self.name, "kind": self.kind, "labels": list(self.labels), "metrics": list(self.metrics),
            "pair": self.pair_column is not None,
        }  # fmt: skip

    @staticmethod
    def from_dict(stored: TaskRecord, max_length: int) -> Task:
        """Rebuild a task from a bundle. A task of the table gets its own columns, any other one those of `auto`."""
        pair = "text_pair" if stored.get("pair") else None
        own = Task(name=stored["name"], labels=(), pair_column=pair, tsv=("text", pair, "label"))
        base = TASKS.get(stored["name"], own)
        labels, metrics = tuple(stored["labels"]), tuple(stored["metrics"])
        return replace(base, labels=labels, metrics=metrics, kind=stored["kind"], max_length=max_length)


_TABLE = (
    Task(
        "cola", ("unacceptable", "acceptable"), metrics=("matthews_correlation", "accuracy"), max_length=64,
        text_column="sentence", tsv=(3, None, 1), intermediate_epochs=50, copies=30,
    ),
    Task(
        "sst2", ("negative", "positive"), max_length=64, text_column="sentence",
        tsv=("sentence", None, "label"), intermediate_epochs=20, copies=20,
    ),
    Task(
        "mrpc", ("not_equivalent", "equivalent"), metrics=("f1", "accuracy"), text_column="sentence1",
        pair_column="sentence2", tsv=("#1 String", "#2 String", "Quality"), intermediate_epochs=20, copies=30,
    ),
    Task(
        "stsb", ("score",), kind="regression", metrics=("spearman", "pearson"), text_column="sentence1",
        pair_column="sentence2", tsv=("sentence1", "sentence2", "score"), intermediate_epochs=20, copies=30,
    ),
    Task(
        "qqp", ("not_duplicate", "duplicate"), metrics=("f1", "accuracy"), text_column="question1",
        pair_column="question2", tsv=("question1", "question2", "is_duplicate"), intermediate_epochs=10, copies=10,
    ),
    Task(
        "mnli", ("entailment", "neutral", "contradiction"), text_column="premise", pair_column="hypothesis",
        tsv=("sentence1", "sentence2", "gold_label"), dev_split="validation_matched", intermediate_epochs=10,
        copies=10,
    ),
    Task(
        "qnli", ("entailment", "not_entailment"), text_column="question", pair_column="sentence",
        tsv=("question", "sentence", "label"), intermediate_epochs=10, copies=20,
    ),
    Task(
        "rte", ("entailment", "not_entailment"), text_column="sentence1", pair_column="sentence2",
        tsv=("sentence1", "sentence2", "label"), intermediate_epochs=20, copies=30,
    ),
    Task(
        "wnli", ("not_entailment", "entailment"), text_column="sentence1", pair_column="sentence2",
        tsv=("sentence1", "sentence2", "label"), intermediate_epochs=20, copies=30,
    ),
    Task(
        "rotten-tomatoes", ("negative", "positive"), max_length=64, intermediate_epochs=4, prediction_epochs=1,
        copies=20,
    ),
)  # fmt: skip
TASKS = {task.name: task for task in _TABLE}


def get_task(name: str) -> Task:
    """Look up a task of the table.

    Raises:
        ToolkitError: the name is not in the table.
    """
    if name in TASKS:
        return TASKS[name]
    raise ToolkitError(
        f"unknown task {name!r}",
        expected=f"one of {', '.join(TASKS)}, or auto with --data",
        fix="--task auto --data DIR, where DIR holds train and dev as .csv, .tsv, .jsonl or .parquet",
    )
