"""`toolkit distill`: a student learns a task from its teacher, first layer by layer, then by its answers.

Stage a (intermediate) minimises the losses of the mapped layers (Eq. 7 to 9), stage b (prediction) the soft
cross-entropy against the teacher's logits (Eq. 10). arXiv 1909.10351, sections 3.1 and 3.2.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.bundle import Bundle, canonical_json, check_target, file_entry, is_bundle, made_by, open_bundle
from toolkit.checkpoint import Checkpoints, weights_digest
from toolkit.config import LAYER_LOSSES, DistillConfig
from toolkit.console import say, show_table
from toolkit.data import Split, load_split, load_texts, resolve_task
from toolkit.errors import ToolkitError
from toolkit.fakequant import quantized
from toolkit.hub import Source, write_model
from toolkit.metrics import evaluate
from toolkit.objectives import Intermediate, Prediction, check_models
from toolkit.precision import frozen, products, settle
from toolkit.processes import processes
from toolkit.runreport import Phases, write_run_report
from toolkit.starts import origins, start_student
from toolkit.steps import Schedule
from toolkit.student import Projections, Shape, depth, layer_map
from toolkit.tables import read_texts
from toolkit.tasks import Task
from toolkit.teacher import check_teacher
from toolkit.text import Encoded, TextEncoder
from toolkit.trace import attention_maps, describe
from toolkit.training import Fitted, Rows, fit, model_logits

FIGURES = ("teacher", "start", "student", "retention")


@dataclass(frozen=True)
class Lesson:
    """What is taught from: the task and both splits; `texts` are those of train and the unlabelled ones, encoded.

    With --augment, `train` is the augmented rows, whose labels nobody reads.
    """

    task: Task
    train: Split
    dev: Split
    encoder: TextEncoder
    texts: Encoded
    dev_encoded: Encoded

    def score(self, model: Any) -> dict[str, float]:
        """All dev metrics of a model."""
        return evaluate(self.task, model_logits(model, self.dev_encoded), self.dev.labels)

    def digests(self, config: DistillConfig) -> dict[str, str]:
        """What was learnt from and scored on: SHA-256 over the rows of both splits, and of the files beside them."""
        files = {"augment": config.augment, "unlabelled": config.unlabelled}
        found = {name: file_entry(Path(path))["sha256"] for name, path in files.items() if path}
        return {"train": self.train.digest, "dev": self.dev.digest, **found}


class Answers(Rows):
    """Rows with the teacher's logits, and the data's own labels for the first of them.

    Args:
        texts: n inputs.
        logits: the teacher's, [n, C].
        labels: of the first k <= n inputs; the others have none.
    """

    def __init__(self, texts: Encoded, logits: np.ndarray, labels: np.ndarray) -> None:
        super().__init__(texts, logits)
        self.labels = labels

    def collate(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The batch with targets [B, C], labels [B, ...] and labelled [B], whether a row has one."""
        chosen = np.asarray(rows)
        known = chosen < len(self.labels)
        labels = self.labels[np.where(known, chosen, 0)]
        return super().collate(rows) | {"labels": torch.from_numpy(labels), "labelled": torch.from_numpy(known)}


def run_distill(config: DistillConfig) -> Bundle:
    """Distil a task student from a fine-tuned teacher and write it, with its report, as a bundle to `config.out`.

    Raises:
        ToolkitError: options, data or models that cannot be used, a weak teacher, or a loss that is not finite.
    """
    config.check()
    check_target(Path(config.out))
    config, phases = config.resolved(), Phases()
    with tempfile.TemporaryDirectory() as workdir:
        with phases("reading models and data"):
            task = resolve_task(str(config.task), config.data)
            source = Source(config.teacher, Path(workdir))
            teacher = source.classifier()
            check_models(config, source.config, teacher)
            mapping = layer_map(config.layer_map, depth(teacher), Shape.parse(config.student).layers)
            lesson = _lesson(config, task, source)
        say(f"distilling {task.name}: {len(lesson.texts):,} texts, {len(lesson.dev):,} for dev; layers {mapping}")
        with phases("scoring the teacher"):
            teacher_metrics = check_teacher(teacher, lesson.task, lesson.dev_encoded, lesson.dev.labels, config)
        with phases("starting the student"):
            student, projections = start_student(config, source, teacher, mapping, lesson.texts, lesson.task)
            start = lesson.score(student)
        made_from = origins(config, source)  # before hours of training: a damaged bundle is refused here
        with Checkpoints(config.to_json(), _inputs(config, lesson, teacher, student)) as checkpoints:
            stages = _teach(config, lesson, teacher, student, projections, mapping, phases, checkpoints)
            with phases("scoring the student"):
                metrics = lesson.score(student)
            manifest = {
                "kind": "student", "task": lesson.task.to_json(), "precision": "fp32",
                "max_length": lesson.task.max_length, "parent": source.digest, "config": config.to_json(),
                "made_from": made_from, "seed": config.seed, "metrics": metrics, "start_metrics": start,
                "teacher_metrics": teacher_metrics, "layer_map": list(mapping), "data": lesson.digests(config),
                "stages": {name: fitted.to_json() for name, fitted in stages.items()},
            }  # fmt: skip
            shown = describe(student, teacher)
            shown["attention"] = attention_maps(student, teacher, mapping, lesson.dev_encoded, lesson.encoder.tokens)
            report = partial(write_run_report, manifest, phases, shown)
            bundle = write_model(config.out, manifest, student, source, report)
    _summary(task, teacher_metrics, start, metrics)
    say(f"wrote {config.out}; how it went is in its report.html")
    return bundle


def run_seeds(config: DistillConfig) -> dict[str, Any]:
    """A student for each of `config.seeds` in OUT/seed-N, those that are there kept, and OUT/summary.json.

    Raises:
        ToolkitError: as `run_distill`; OUT is something else, or seeds that learnt from different data.
    """
    config.check()
    out = Path(config.out)
    _check_folder(out)
    seeds = list(dict.fromkeys(map(int, str(config.seeds).split(","))))
    parent = open_bundle(config.teacher).digest if is_bundle(Path(config.teacher)) else None
    bundles = []
    for seed in seeds:
        one = replace(config, seed=seed, seeds=None, out=str(out / f"seed-{seed}"))
        made = open_bundle(one.out) if is_bundle(Path(one.out)) else None
        kept = made is not None and made_by(made, one.resolved().to_json(), parent)
        say(f"== seed {seed}" + (f": {one.out} is there already" if kept else ""))
        bundles.append(made if made is not None and kept else run_distill(one))
    if len({json.dumps(bundle.manifest["data"], sort_keys=True) for bundle in bundles}) > 1:
        raise ToolkitError(f"the seeds in {out} learnt from different data", fix=f"remove {out} and run again")
    summary = summarize(bundles)
    if processes().is_main_process:
        (out / "summary.json").write_bytes(canonical_json(summary))
    metric = summary["metric"]
    rows = [[str(one["seed"]), *(f"{one[name]:.2f}" for name in FIGURES)] for one in summary["seeds"]]
    rows.append(["mean", *(f"{summary['mean'][name]:.2f}" for name in FIGURES)])
    rows.append(["deviation", *(f"{summary['deviation'][name]:.2f}" for name in FIGURES)])
    show_table(f"{summary['task']}, dev {metric}, %", ("seed", *FIGURES), rows)
    say(f"wrote {out / 'summary.json'}")
    return summary


def summarize(bundles: Sequence[Bundle]) -> dict[str, Any]:
    """The task's metric in % of teacher, start and student, the share kept; mean and sample deviation over seeds."""
    metric, rows = bundles[0].task.metric, []
    for bundle in bundles:
        names = {"teacher": "teacher_metrics", "start": "start_metrics", "student": "metrics"}
        row = {name: 100 * bundle.manifest[key][metric] for name, key in names.items()}
        kept = 100 * row["student"] / row["teacher"] if row["teacher"] > 0 else 0.0
        rows.append({"seed": bundle.manifest["seed"], "digest": bundle.digest, **row, "retention": kept})
    columns = {name: [row[name] for row in rows] for name in FIGURES}
    return {
        "task": bundles[0].task.name, "metric": metric, "seeds": rows,
        "mean": {name: mean(values) for name, values in columns.items()},
        "deviation": {name: stdev(values) if len(values) > 1 else 0.0 for name, values in columns.items()},
    }  # fmt: skip


def _check_folder(out: Path) -> None:
    """Seeds lie side by side in a folder of their own."""
    strange = [] if not out.is_dir() else [p.name for p in out.iterdir() if not p.name.lstrip(".").startswith("seed-")]
    if out.is_file() or set(strange) - {"summary.json"}:
        raise ToolkitError(
            f"--out {out} holds something else than seeds" + (f": {sorted(strange)[0]}" if strange else ""),
            expected="a new path, or the folder of an earlier --seeds", fix="another --out",
        )  # fmt: skip
    check_target(out / "seed-0")
    out.mkdir(exist_ok=True)


def _lesson(config: DistillConfig, task: Task, source: Source) -> Lesson:
    train = load_texts(task, config.augment) if config.augment else load_split(task, "train", config.data)
    dev = load_split(task, "dev", config.data)
    train = train.head(config.max_rows or len(train), config.seed)
    stored = source.bundle.max_length if source.bundle else None
    encoder = source.encoder(task, config.max_length or stored)
    task = replace(task, max_length=encoder.max_length)
    texts, pairs = train.texts, train.pairs
    if config.unlabelled:
        more, other = read_texts(Path(config.unlabelled), pairs=pairs is not None)
        texts, pairs = texts + more, None if pairs is None or other is None else pairs + other
    return Lesson(task, train, dev, encoder, encoder.encode(texts, pairs), encoder.encode(dev.texts, dev.pairs))


def _inputs(config: DistillConfig, lesson: Lesson, teacher: Any, student: Any) -> dict[str, str]:
    """Digests of what the options name: a run goes on only from checkpoints of the same."""
    found = lesson.digests(config) | {"teacher": weights_digest(teacher)}
    return found if config.init in ("teacher", "random") else found | {"init": weights_digest(student)}


def _teach(
    config: DistillConfig, lesson: Lesson, teacher: Any, student: Any, projections: Projections,
    mapping: Sequence[int], phases: Phases, checkpoints: Checkpoints,
) -> dict[str, Fitted]:  # fmt: skip
    """Both stages, those that have an epoch and a loss; what each did, by name."""
    stages: dict[str, Fitted] = {}
    weights, device = config.weights, processes().device
    precision = settle(config.precision, device, float(lesson.texts.lengths.mean()))
    if config.intermediate_epochs and any(weights[name] for name in LAYER_LOSSES):
        objective = Intermediate(student, teacher, projections, mapping, weights, config.relation_heads)
        with phases("stage a, intermediate"), frozen(teacher, precision, device):
            # no dev metric selects here: the head is not being trained, so the last step is the one to keep
            stages["intermediate"] = fit(
                objective, Rows(lesson.texts), Schedule.of(config, config.intermediate_epochs, config.intermediate_lr),
                name="intermediate", model=student, evaluate=None, checkpoints=checkpoints,
            )  # fmt: skip
        objective.close()
    if config.prediction_epochs and (weights["prediction"] or weights["label"]):
        with phases(name := "the teacher's answers"), products(precision, device), frozen(teacher, precision, device):
            rows = Answers(lesson.texts, model_logits(teacher, lesson.texts, name), lesson.train.labels)
        if weights["label"] and len(lesson.texts) > len(lesson.train):
            say(f"the label loss sees {len(lesson.train):,} of {len(lesson.texts):,} texts: the unlabelled have none")
        answers = Prediction(
            student, lesson.task.kind, config.temperature, prediction=weights["prediction"], label=weights["label"]
        )
        learning = Schedule.of(config, config.prediction_epochs, config.prediction_lr, evaluations=4)
        if config.quantization_aware and config.precision == "auto":
            learning = replace(learning, precision="fp32")  # bf16 has no room for the whole numbers of int8
        with phases("stage b, prediction"), quantized(student) if config.quantization_aware else nullcontext():
            stages["prediction"] = fit(
                answers, rows, learning, name="prediction", model=student,
                evaluate=lambda: lesson.score(student)[lesson.task.metric], checkpoints=checkpoints,
            )  # fmt: skip
    return stages


def _summary(task: Task, teacher: dict[str, float], start: dict[str, float], student: dict[str, float]) -> None:
    t, s, m = (100 * metrics[task.metric] for metrics in (teacher, start, student))
    say(f"dev {task.metric}: teacher {t:.2f}, student before training {s:.2f}, student {m:.2f}")
    if t > 0:
        say(f"the student keeps {100 * m / t:.1f} % of the teacher (the paper: 96.8 %)")
