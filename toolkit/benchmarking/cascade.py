"""`toolkit cascade`: what a student with a teacher behind it gives and costs, over all thresholds.

Both models answer all rows, and are timed on some of them. A cascade at a threshold takes the teacher's answer where
the student's score is below it, so that its accuracy and its mean cost follow without running it:
cost = student's + share of rows asked on * teacher's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from toolkit.benchmarking.report.cascade import CascadeReport, Point, table_of, write_report
from toolkit.benchmarking.report.write import REPORT
from toolkit.bundle.calibration import describe_promises, is_unsure
from toolkit.bundle.format import check_output_path
from toolkit.config import CascadeConfig
from toolkit.console import echo, show_table
from toolkit.data.datasets import Split
from toolkit.data.sources import WHOLE
from toolkit.errors import require_packages
from toolkit.inference.cascade import label_places, require_labels
from toolkit.inference.evaluate import rows_to_score
from toolkit.inference.predictor import Predictor, open_predictor
from toolkit.measurement.environment import environment
from toolkit.measurement.timing import measure_in_turn


@dataclass(frozen=True)
class PairedAnswers:
    """Both models' answers to n rows.

    Attributes:
        scores: [n, C] the student's.
        teacher: [n] the numbers of the labels that the teacher gives, in the student's order.
        truth: [n] those of the right ones.
    """

    scores: np.ndarray
    teacher: np.ndarray
    truth: np.ndarray

    @property
    def student(self) -> np.ndarray:
        """The numbers of the labels that the student gives, [n]."""
        return np.asarray(self.scores.argmax(axis=1))


@dataclass(frozen=True)
class Costs:
    """Milliseconds of one CPU that a text takes, of each model."""

    student_ms: float
    teacher_ms: float


def measure_cascade(config: CascadeConfig) -> CascadeReport:
    """Measure both models, write the reports, and return the report.

    Raises:
        ToolkitError: a bundle or data that cannot be used, or other labels; nothing is written.
    """
    config.check()
    require_packages("jinja2", "matplotlib", purpose="toolkit cascade")
    student, teacher = (open_predictor(path, threads=1) for path in (config.student, config.teacher))
    check_labels(student, teacher)
    path = student.bundle.path.resolve()
    out = Path(config.out) if config.out else path.with_name(f"{path.name}-cascade")
    check_output_path(out, REPORT, "cascade report")
    split, rows = rows_to_score(config, student.task, student.bundle.manifest, usual="test")
    split = Path(str(config.data)).name if split == WHOLE else split
    echo(f"both models answer {len(rows):,} rows of {split}")
    answers, costs = answers_of(student, teacher, rows), _costs(student, teacher, rows, config)
    thresholds, calibration = student.thresholds, student.calibration
    report = CascadeReport(
        student=str(student.bundle.path), teacher=str(teacher.bundle.path), split=split, rows=len(rows),
        student_ms=costs.student_ms, teacher_ms=costs.teacher_ms, cpu_hour_price=config.cpu_hour_price,
        curve=all_points(answers, costs),
        guaranteed=None if thresholds is None else guaranteed_point(answers, costs, thresholds),
        promises=[] if calibration is None else describe_promises(calibration, student.task.labels),
        created=datetime.now(UTC).isoformat(timespec="seconds"), environment=dict(environment()),
    )  # fmt: skip
    write_report(report, out)
    table = table_of(report)
    show_table(table.title, table.columns, table.rows)
    if thresholds is None:
        command = f"toolkit calibrate {config.student} --data FILE --agree 0.98 --teacher {config.teacher}"
        echo(f"no point is guaranteed; one is after: {command}")
    echo(f"reports: {out / 'report.html'}, report.json")
    return report


def check_labels(student: Predictor, teacher: Predictor) -> None:
    """Check that both give one of the same labels, in any order.

    Raises:
        ToolkitError: they do not.
    """
    for predictor in (student, teacher):
        require_labels(predictor.task.kind, str(predictor.bundle.path))
    label_places(student.task.labels, teacher.task.labels, str(teacher.bundle.path))


def answers_of(student: Predictor, teacher: Predictor, rows: Split) -> PairedAnswers:
    """Let both models answer all rows."""
    scores = student.scores(student.logits(student.encoder.encode(rows.texts, rows.pairs)))
    order = label_places(student.task.labels, teacher.task.labels, str(teacher.bundle.path))
    second = teacher.logits(teacher.encoder.encode(rows.texts, rows.pairs))[:, order]
    return PairedAnswers(scores, second.argmax(axis=1), np.asarray(rows.labels))


def _costs(student: Predictor, teacher: Predictor, rows: Split, config: CascadeConfig) -> Costs:
    """Time both in turn on texts of every length, one text at a time: tokenization and model, on one thread."""
    chosen = rows.take(np.unique(np.linspace(0, len(rows) - 1, min(config.queries, len(rows))).astype(int)))

    def program(predictor: Predictor) -> Callable[[], object]:
        return lambda: predictor.logits(predictor.encoder.encode(chosen.texts, chosen.pairs), batch_size=1)

    times = measure_in_turn({"student": program(student), "teacher": program(teacher)}, config.rounds)
    student_ms, teacher_ms = (float(np.median(times[name])) / len(chosen) for name in ("student", "teacher"))
    return Costs(student_ms, teacher_ms)


def all_points(answers: PairedAnswers, costs: Costs) -> list[Point]:
    """Give the cascade at every threshold that asks other rows than the one before, from the student's alone on.

    The last point asks the teacher about all rows; its threshold is None.
    """
    best = answers.scores.max(axis=1)
    order, n = np.argsort(best, kind="stable"), len(best)
    confidence = best[order]
    right, second = (answers.student == answers.truth)[order], (answers.teacher == answers.truth)[order]
    same = (answers.student == answers.teacher)[order]
    asked = np.flatnonzero(np.concatenate([[True], confidence[1:] > confidence[:-1], [True]]))

    def merged(first: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Give the share of rows that hold where the k least sure ones are of `others`, for each k in `asked`."""
        taken = np.concatenate([[0], np.cumsum(others)])
        left = first.sum() - np.concatenate([[0], np.cumsum(first)])
        return np.asarray((taken + left)[asked] / n)

    accuracy, agreement = merged(right, second), merged(same, np.ones(n, dtype=bool))
    return [
        Point(
            threshold=float(confidence[k]) if k < n else None, answered=1 - k / n, accuracy=float(accuracy[i]),
            agreement=float(agreement[i]), cost_ms=costs.student_ms + k / n * costs.teacher_ms,
        )
        for i, k in enumerate(asked.tolist())
    ]  # fmt: skip


def guaranteed_point(answers: PairedAnswers, costs: Costs, thresholds: np.ndarray) -> Point:
    """Give the cascade at the thresholds of the labels, [C], as `toolkit serve --fallback` runs it."""
    asked = is_unsure(answers.scores, thresholds)
    labels = np.where(asked, answers.teacher, answers.student)
    share = float(asked.mean())
    return Point(
        threshold=float(thresholds[0]) if len(np.unique(thresholds)) == 1 else None, answered=1 - share,
        accuracy=float((labels == answers.truth).mean()), agreement=float((labels == answers.teacher).mean()),
        cost_ms=costs.student_ms + share * costs.teacher_ms,
    )  # fmt: skip
