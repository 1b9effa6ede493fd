"""The search: candidates start as projections of their teacher, the better half trains a little, the best of it more.

Optuna keeps every result in the search's folder and decides who goes on: a short and a whole training are the rungs of
its asynchronous successive halving (arXiv 1810.05934). A projection is kept too, and all trainings of its shape begin
with it. A killed search finds there what it has paid for, and half a training in the checkpoints of `toolkit distill`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from toolkit.bundle.format import Bundle, is_bundle, new_manifest, open_bundle
from toolkit.bundle.manifest import Manifest, Metrics, ScoredSplit
from toolkit.bundle.scores import ScoresBySplit, by_split, put_scores, scores_by_split
from toolkit.compression.material import Material
from toolkit.compression.plan import REDUCTION, STARTED, Plan
from toolkit.compression.trainings import (
    Epochs,
    describe,
    rungs,
    train_or_reuse,
    training,
    training_from,
    whole_epochs,
)
from toolkit.config import CompressConfig, DistillConfig
from toolkit.console import echo
from toolkit.distillation.distill import Distillation, prepare
from toolkit.distillation.initialization.student import ModelPair, initialize_student, save_projections
from toolkit.distillation.report import PhaseTimer
from toolkit.errors import ToolkitError
from toolkit.models.student import Shape, plan_student
from toolkit.training.saving import write_model

STORE, ANSWERS, NAME = "search.log", "teacher-scores.parquet", "compress"
STARTS = 1 / 3  # of the time, for scoring starts
# a search goes on with other values of these
NOT_COMPARED = ("hours", "dry_run", "out", "list", "pick", "ray", "ray_cpus")
LATER_OPTIONS: dict[str, object] = {"trim_vocabulary": []}  # searches of earlier releases do not hold these


class Search:
    """A search in its folder.

    Args:
        config: options.
        material: the teacher and the data.

    Raises:
        ToolkitError: the folder holds a search by other options.
    """

    quiet = True  # no training runs on this machine, so that graphs can be timed

    def __init__(self, config: CompressConfig, material: Material) -> None:
        self.config, self.material, self.out = config, material, Path(config.out)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.out / STORE))), study_name=NAME, load_if_exists=True,
            direction="maximize", sampler=optuna.samplers.RandomSampler(config.seed),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
        )  # fmt: skip
        self.parent = open_bundle(config.teacher) if is_bundle(Path(config.teacher)) else None
        options = {name: value for name, value in asdict(config).items() if name not in NOT_COMPARED}
        options["digest"] = self.parent.digest if self.parent else None
        options["trim_vocabulary"] = list(config.trim_vocabulary)  # as JSON has it
        if {**LATER_OPTIONS, **self.recall("options", options)} != options:
            raise ToolkitError(f"{self.out} holds a search by other options or of another teacher", fix="another --out")
        self._earlier, self._start = float(self.recall("seconds", 0.0)), time.monotonic()
        self.remember("options", options)
        self._work = self._worked = 0.0  # seconds of trainings so far as they were estimated, and as they were

    def recall(self, name: str, otherwise: Any) -> Any:
        """Give what an earlier or this command remembered."""
        return self.study.user_attrs.get(name, otherwise)

    def remember(self, name: str, value: Any) -> None:
        """Keep a value of JSON in the folder, with the time spent."""
        self.study.set_user_attr(name, value)
        self.study.set_user_attr("seconds", self.seconds)

    @property
    def seconds(self) -> float:
        """Time spent, by earlier commands too."""
        return self._earlier + time.monotonic() - self._start

    @property
    def teacher_score(self) -> float:
        """The teacher's metric on dev, in percent."""
        return float(self.recall("teacher", 0.0))

    @property
    def starts(self) -> dict[Shape, float]:
        """The metric of each start on dev, in percent."""
        return {Shape.parse(name): score for name, score in self.recall("starts", {}).items()}

    @property
    def tried(self) -> list[Shape]:
        """The shapes whose start was scored, and those of the paper that were trained."""
        return [Shape.parse(name) for name in self.recall("starts", {}) | self.recall("references", {})]

    @property
    def students(self) -> list[tuple[Shape, Epochs]]:
        """The students that the trials have trained so far."""
        return [
            (Shape.parse(trial.params["shape"]), epochs)
            for trial in self.study.get_trials(deepcopy=False)
            for epochs in rungs(self.config)[: len(trial.intermediate_values)]
        ]

    def has_time(self, shape: Shape, *epochs: Epochs) -> bool:
        """Tell whether trainings of a shape of so many epochs still fit into --hours, by the pace of those so far."""
        pace = self._worked / self._work if self._work else 1.0
        seconds = sum(self.material.training_seconds(shape, each) for each in epochs) * pace
        return self.seconds + seconds <= 3600 * self.config.hours

    def score_starts(self, shapes: Sequence[Shape]) -> None:
        """Project each shape from the teacher and score it on dev, in a share of --hours that leaves time to train."""
        missing = [shape for shape in shapes if shape not in self.starts]
        if not missing or self.recall("promising", None):
            return
        with tempfile.TemporaryDirectory() as workdir:
            for shape, score in self._starts(missing, Path(workdir)):
                self.remember("starts", {**self.recall("starts", {}), str(shape): score})
                echo(f"{shape} starts at {score:.2f}, the teacher has {self.teacher_score:.2f}")
                late = self.seconds > STARTS * 3600 * self.config.hours
                if late or not self.has_time(shape, whole_epochs(self.config)):
                    break

    def _starts(self, shapes: Sequence[Shape], workdir: Path) -> Iterator[tuple[Shape, float]]:
        options = training(self.config, str(shapes[0]), str(self.out / "start"), None).resolved()
        prepared = prepare(options, workdir, PhaseTimer(), self.out / ANSWERS)
        metric, teacher = prepared.data.task.metric, prepared.models.teacher
        self.remember("metric", metric)
        self.remember("teacher", 100 * prepared.teacher.metrics["dev"][metric])
        prepared.teacher.answers()  # once for all trainings, whose pace would else be that of the first one
        yield shapes[0], self._kept_start(prepared, shapes[0], prepared.models, prepared.start_metrics)
        for shape in shapes[1:]:
            plan = plan_student(
                teacher, shape=str(shape), layers=options.layer_map, init=options.init, weights=options.weights,
                relation_heads=None, family=options.student_family,
            )  # fmt: skip
            pair = initialize_student(
                plan, prepared.data.reader, teacher, teacher, prepared.data.texts, prepared.data.task,
                precision=options.precision, seed=options.seed,
            )  # fmt: skip
            yield shape, self._kept_start(prepared, shape, pair, prepared.data.scorer.scores(pair.student))

    def _kept_start(
        self, prepared: Distillation, shape: Shape, pair: ModelPair, metrics: Mapping[ScoredSplit, Metrics]
    ) -> float:
        """Keep a projected student for its trainings and return its metric on dev, in percent."""
        data = prepared.data
        folder = student_folder(self.out, shape, (0, 0))
        # a student of a trimmed vocabulary reads other word pieces than its teacher: its trainings start anew
        if data.trimmed is None and not is_bundle(folder):
            assert pair.projections is not None
            manifest = new_manifest(
                "student", data.task.to_dict(), max_length=data.task.max_length, parent=prepared.parent,
                made_from=prepared.made_from, config=self.training_of(shape, (0, 0)).to_dict(), seed=self.config.seed,
                data=data.digests,
            )  # fmt: skip
            scores: ScoresBySplit = {split: {"metrics": of_split} for split, of_split in metrics.items()}
            put_scores(manifest, by_split(scores, metrics, prepared.teacher.metrics))
            write_model(str(folder), manifest, pair.student, data.reader, partial(save_projections, pair.projections))
        return 100 * metrics["dev"][data.task.metric]

    def train_candidates(self, plan: Plan, trained: Callable[[Shape, Epochs], None]) -> None:
        """Train the half of the candidates that starts best, the best first, rung by rung, while there is time.

        Args:
            plan: the candidates.
            trained: is told every training that has ended.
        """
        starts = self.starts
        ranked = sorted((shape for shape in plan.candidates if shape in starts), key=lambda shape: -starts[shape])
        promising = self.recall("promising", [str(shape) for shape in ranked[: -(-len(ranked) // STARTED)]])
        self.remember("promising", promising)
        for name in promising:
            self.study.enqueue_trial({"shape": name}, skip_if_exists=True)
        if not self._run(self._trials(promising), trained):
            echo(f"--hours {self.config.hours:g} leaves time for the last training alone")

    def _trials(self, promising: Sequence[str]) -> Iterator[tuple[optuna.Trial, Shape]]:
        """Give the trials that were killed, if there are any, and then those that wait, with their shapes."""
        for left in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            trial = optuna.Trial(self.study, left._trial_id)  # `ask` gives waiting ones alone
            yield trial, Shape.parse(trial.suggest_categorical("shape", promising))
        while self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            trial = self.study.ask()
            yield trial, Shape.parse(trial.suggest_categorical("shape", promising))

    def _run(self, trials: Iterator[tuple[optuna.Trial, Shape]], trained: Callable[[Shape, Epochs], None]) -> bool:
        """Take each trial from rung to rung, one after the other; return False where time is up before the last."""
        for trial, shape in trials:
            while epochs := self.next_training(trial, shape):
                if not self.has_time_to_try(shape, epochs):
                    return False
                score = dev_score(self.train(shape, epochs).manifest)
                trained(shape, epochs)
                self.report(trial, epochs, score)
        return True

    def next_training(self, trial: optuna.Trial, shape: Shape) -> Epochs | None:
        """Give the epochs of a trial's next rung; None where it is pruned or at the top, which Optuna is told."""
        lengths = rungs(self.config)
        done = len(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        if done == len(lengths):
            self.study.tell(trial, self.score_of(shape)[0])
            return None
        if done and trial.should_prune():
            self.study.tell(trial, state=TrialState.PRUNED)
            return None
        return lengths[done]

    def report(self, trial: optuna.Trial, epochs: Epochs, score: float) -> None:
        """Tell Optuna the metric of a trial after a training, in percent."""
        trial.report(score, REDUCTION ** rungs(self.config).index(epochs))

    def has_time_to_try(self, shape: Shape, epochs: Epochs) -> bool:
        """Tell whether a training fits into --hours, and the whole one for which it decides."""
        return self.has_time(shape, *dict.fromkeys((epochs, whole_epochs(self.config))))

    def train_references(self, shapes: Sequence[Shape], trained: Callable[[Shape, Epochs], None]) -> None:
        """Train shapes that are no candidates as long as the first rung does, where time is left, to compare with."""
        short = rungs(self.config)[0]
        for shape in shapes:
            if self.has_time(shape, short):
                score = dev_score(self.train(shape, short).manifest)
                self.remember("references", {**self.recall("references", {}), str(shape): score})
                trained(shape, short)

    def train(self, shape: Shape, epochs: Epochs) -> Bundle:
        """Train a student, or find it trained."""
        return self.train_on(f"{shape}, {describe(epochs)}", self.training_of(shape, epochs), shape, epochs)

    def train_on(self, title: str, options: DistillConfig, shape: Shape, epochs: Epochs) -> Bundle:
        """Train a student by these options, or find it trained; its pace says how long the next ones take."""
        return self.opened(title, options, shape, epochs, self._train(title, options))

    def _train(self, title: str, options: DistillConfig) -> float:
        return train_or_reuse(title, options, self.out / ANSWERS, self.parent)

    def opened(self, title: str, options: DistillConfig, shape: Shape, epochs: Epochs, seconds: float) -> Bundle:
        """Open a student that was trained, in so many seconds, or in none where it was there."""
        bundle = open_bundle(options.out)
        if seconds:
            self._worked += seconds
            self._work += self.material.training_seconds(shape, epochs)
        self.study.set_user_attr("seconds", self.seconds)
        echo(f"{title}: dev {dev_score(bundle.manifest):.2f}")
        return bundle

    def training_of(self, shape: Shape, epochs: Epochs) -> DistillConfig:
        """Give the options of a training in this folder; it begins with the projection that is kept there."""
        options = training(self.config, str(shape), str(student_folder(self.out, shape, epochs)), epochs)
        start = student_folder(self.out, shape, (0, 0))
        return training_from(start, options) if any(epochs) and is_bundle(start) else options

    def score_of(self, shape: Shape) -> tuple[float, Epochs]:
        """Give the metric of a shape after the longest training that it had, in percent, and the epochs of that."""
        if (score := self.recall("references", {}).get(str(shape))) is not None:
            return score, rungs(self.config)[0]
        best = self.starts.get(shape, 0.0), (0, 0)
        for trial in self.study.get_trials(deepcopy=False):
            if trial.params.get("shape") == str(shape) and trial.intermediate_values:
                step = max(trial.intermediate_values)
                best = trial.intermediate_values[step], rungs(self.config)[0 if step == 1 else 1]
        return best

    def ranking(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Order shapes by the length of their training, then by their metric on dev; equal ones stay as they were."""
        return sorted(shapes, key=lambda shape: (self.score_of(shape)[1], self.score_of(shape)[0]), reverse=True)


def student_folder(out: Path, shape: Shape, epochs: Epochs) -> Path:
    """Return the folder of a student in that of a search; no epochs are a start."""
    return out / str(shape).replace("/", "-") / f"epochs-{epochs[0]}-{epochs[1]}"


def dev_score(manifest: Manifest) -> float:
    """Read the task's metric on dev out of a manifest, in percent."""
    task = manifest["task"]
    assert task is not None
    return 100 * scores_by_split(manifest)["dev"]["metrics"][task["metrics"][0]]
