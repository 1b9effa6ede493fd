"""The search: candidates start as projections of their teacher, and by successive halving the better half trains on.

Optuna keeps every result in the search's folder and decides who goes on: each short training is a rung of its
asynchronous successive halving (arXiv 1810.05934). A killed search finds there what it has paid for, and half a
training in the checkpoints of `toolkit distill`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from toolkit.bundle.format import Bundle, is_bundle, open_bundle
from toolkit.bundle.manifest import Manifest
from toolkit.bundle.provenance import run_or_reuse
from toolkit.bundle.scores import split_of
from toolkit.compression.material import Material, rungs, training, whole_epochs
from toolkit.compression.plan import HALVING, Plan
from toolkit.config import CompressConfig, DistillConfig
from toolkit.console import echo
from toolkit.distillation.distill import prepare, run_distill
from toolkit.distillation.initialization.student import initialize_student
from toolkit.distillation.report import PhaseTimer
from toolkit.errors import ToolkitError
from toolkit.models.student import Shape, plan_student

STORE, ANSWERS, NAME = "search.log", "teacher-scores.parquet", "compress"
STARTS = 1 / 3  # of the time, for scoring starts
NOT_COMPARED = ("hours", "dry_run", "out")  # a search goes on with other values of these


class Search:
    """A search in its folder.

    Args:
        config: options.
        material: the teacher and the data.

    Raises:
        ToolkitError: the folder holds a search by other options.
    """

    def __init__(self, config: CompressConfig, material: Material) -> None:
        self.config, self.material, self.out = config, material, Path(config.out)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.out / STORE))), study_name=NAME, load_if_exists=True,
            direction="maximize", sampler=optuna.samplers.RandomSampler(config.seed),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=HALVING),
        )  # fmt: skip
        self._parent = open_bundle(config.teacher) if is_bundle(Path(config.teacher)) else None
        options = {name: value for name, value in asdict(config).items() if name not in NOT_COMPARED}
        options["digest"] = self._parent.digest if self._parent else None
        if self.recall("options", options) != options:
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

    def has_time(self, shape: Shape, *epochs: tuple[int, int]) -> bool:
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
        self.remember("teacher", 100 * prepared.teacher_metrics["dev"][metric])
        yield shapes[0], 100 * prepared.start_metrics["dev"][metric]
        for shape in shapes[1:]:
            plan = plan_student(
                teacher, shape=str(shape), layers=options.layer_map, init=options.init, weights=options.weights,
                relation_heads=None, family=options.student_family,
            )  # fmt: skip
            pair = initialize_student(
                plan, prepared.reader, teacher, teacher, prepared.data.texts, prepared.data.task,
                precision=options.precision, seed=options.seed,
            )  # fmt: skip
            yield shape, 100 * prepared.data.scorer.scores(pair.student)["dev"][metric]

    def train_candidates(self, plan: Plan) -> None:
        """Train the half of the candidates that starts best, the best first, rung by rung, while there is time."""
        starts = self.starts
        ranked = sorted((shape for shape in plan.candidates if shape in starts), key=lambda shape: -starts[shape])
        promising = self.recall("promising", [str(shape) for shape in ranked[: -(-len(ranked) // HALVING)]])
        self.remember("promising", promising)
        for name in promising:
            self.study.enqueue_trial({"shape": name}, skip_if_exists=True)
        for trial in self._trials():
            shape = Shape.parse(trial.suggest_categorical("shape", promising))
            if not self._train_on(trial, shape):
                echo(f"--hours {self.config.hours:g} leaves time for the last training alone")
                return

    def _trials(self) -> Iterator[optuna.Trial]:
        """Give the trial that was killed, if there is one, and then those that wait."""
        for left in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            yield optuna.Trial(self.study, left._trial_id)
        while self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            yield self.study.ask()

    def _train_on(self, trial: optuna.Trial, shape: Shape) -> bool:
        """Take a trial from rung to rung until it is pruned or at the top; return False where time is up before."""
        short = rungs(self.config)
        reported = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for rung, epochs in enumerate(short):
            step = HALVING**rung
            if step not in reported:
                if not self.has_time(shape, epochs, whole_epochs(self.config)):
                    return False
                trial.report(dev_score(self.train(shape, epochs).manifest), step)
            if rung + 1 < len(short) and trial.should_prune():
                self.study.tell(trial, state=TrialState.PRUNED)
                return True
        self.study.tell(trial, self.score_of(shape)[0])
        return True

    def train_references(self, shapes: Sequence[Shape]) -> None:
        """Train shapes that are no candidates as long as the last rung does, where time is left, to compare with."""
        longest = rungs(self.config)[-1]
        for shape in shapes:
            if self.has_time(shape, longest):
                score = dev_score(self.train(shape, longest).manifest)
                self.remember("references", {**self.recall("references", {}), str(shape): score})

    def train(self, shape: Shape, epochs: tuple[int, int] | None) -> Bundle:
        """Train a student, or find it trained; None trains it at full length."""

        def run(options: DistillConfig) -> Bundle:
            start = time.monotonic()
            bundle = run_distill(options, answers=self.out / ANSWERS)
            self._worked += time.monotonic() - start
            self._work += self.material.training_seconds(shape, epochs or whole_epochs(self.config))
            return bundle

        bundle = run_or_reuse(f"{shape}, {_said(epochs)}", self.training_of(shape, epochs), run, self._parent)
        self.study.set_user_attr("seconds", self.seconds)
        echo(f"{shape}, {_said(epochs)}: dev {dev_score(bundle.manifest):.2f}")
        return bundle

    def training_of(self, shape: Shape, epochs: tuple[int, int] | None) -> DistillConfig:
        """Give the options of a training in this folder."""
        return training(self.config, str(shape), str(student_folder(self.out, shape, epochs)), epochs)

    def score_of(self, shape: Shape) -> tuple[float, tuple[int, int]]:
        """Give the metric of a shape after the longest training that it had, in percent, and the epochs of that."""
        if (score := self.recall("references", {}).get(str(shape))) is not None:
            return score, rungs(self.config)[-1]
        best = self.starts.get(shape, 0.0), (0, 0)
        for trial in self.study.get_trials(deepcopy=False):
            if trial.params.get("shape") == str(shape) and trial.intermediate_values:
                step = max(trial.intermediate_values)
                best = trial.intermediate_values[step], rungs(self.config)[step.bit_length() - 1]
        return best

    def ranking(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Order shapes by the length of their training, then by their metric on dev; equal ones stay as they were."""
        return sorted(shapes, key=lambda shape: (self.score_of(shape)[1], self.score_of(shape)[0]), reverse=True)


def student_folder(out: Path, shape: Shape, epochs: tuple[int, int] | None) -> Path:
    """Return the folder of a student in that of a search."""
    return out / str(shape).replace("/", "-") / ("student" if epochs is None else f"epochs-{epochs[0]}-{epochs[1]}")


def dev_score(manifest: Manifest) -> float:
    """Read the task's metric on dev out of a manifest, in percent."""
    scores = manifest if split_of(manifest) == "dev" else manifest["dev_scores"]
    task = manifest["task"]
    assert task is not None
    return 100 * scores["metrics"][task["metrics"][0]]


def _said(epochs: tuple[int, int] | None) -> str:
    return "whole training" if epochs is None else f"{epochs[0]} + {epochs[1]} epochs"
