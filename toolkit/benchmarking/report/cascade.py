"""The report of a cascade: accuracy against mean cost, as report.json and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.benchmarking.report.write import REPORT
from toolkit.files import atomic_directory, canonical_json, sole_writer
from toolkit.reports.html_page import Figure, Page, Section
from toolkit.reports.svg import MARKERS, MUTED, legend, series, svg
from toolkit.reports.table import Table, percent

SHOWN = 10  # rows of the table between both models alone
METHOD = (
    "Both models answered every row once, and were timed in turn, one text at a time on one thread, tokenization "
    "included. A cascade costs the student's time for every text, and the teacher's for those whose best score is "
    "below the threshold.",
    "The dotted line sends texts on by chance: what lies above it, the student's score has brought. Points of the "
    "curve are read off these rows and promise nothing for others; guaranteed points hold what `toolkit calibrate` "
    "promised.",
)


@dataclass(frozen=True)
class Point:
    """A cascade at a threshold.

    Attributes:
        threshold: the teacher answers where the student's best score is below it; None asks it about all, or where
            labels have thresholds of their own.
        answered: share of the rows that the student answers.
        accuracy: share that is answered rightly.
        agreement: share that is answered as the teacher does.
        cost_ms: mean milliseconds of one CPU for a text.
    """

    threshold: float | None
    answered: float
    accuracy: float
    agreement: float
    cost_ms: float


@dataclass(frozen=True)
class CascadeReport:
    """What was measured.

    Attributes:
        student, teacher: the bundles.
        split, rows: what answered, and how many.
        student_ms, teacher_ms: milliseconds of one CPU for a text.
        cpu_hour_price: price of an hour of it, if given.
        curve: every threshold, from the student's alone on.
        guaranteed: the cascade at the student's own thresholds, with a promise; None where it has none.
        promises: what they promise, in words.
        created, environment: when and where.
    """

    student: str
    teacher: str
    split: str
    rows: int
    student_ms: float
    teacher_ms: float
    cpu_hour_price: float | None
    curve: list[Point]
    guaranteed: Point | None
    promises: list[str]
    created: str
    environment: dict[str, Any]

    @property
    def teacher_alone(self) -> Point:
        """The teacher without the student in front of it."""
        last = self.curve[-1]
        return Point(None, 0.0, last.accuracy, 1.0, self.teacher_ms)


def table_of(report: CascadeReport) -> Table:
    """Make the table: the student alone, SHOWN points of the curve, the guaranteed one, the teacher alone."""
    shares = [1 - i / (SHOWN + 1) for i in range(1, SHOWN + 1)]
    between = {min(report.curve, key=lambda point: abs(point.answered - share)): None for share in shares}
    named = [("cascade", point) for point in between if point not in (report.curve[0], report.guaranteed)]
    if report.guaranteed is not None:
        named.append(("cascade, guaranteed", report.guaranteed))
    named.sort(key=lambda entry: entry[1].cost_ms)
    named = [("student alone", report.curve[0]), *named, ("teacher alone", report.teacher_alone)]
    columns = ["", "threshold", "by the student", "accuracy", "as the teacher", "ms a text", "the teacher costs"]
    if report.cpu_hour_price is not None:
        columns.append("price of a million")
    return Table(
        f"{report.rows:,} rows of {report.split}", columns, [_row(report, name, point) for name, point in named]
    )


def _row(report: CascadeReport, name: str, point: Point) -> list[str]:
    threshold = "by label" if point.threshold is None else f"{point.threshold:.4f}"
    price = [] if report.cpu_hour_price is None else [f"{_million(point, report.cpu_hour_price):.3g}"]
    return [
        name, "-" if "alone" in name else threshold, percent(point.answered), percent(point.accuracy, 2),
        percent(point.agreement), f"{point.cost_ms:.3g}", f"{report.teacher_ms / point.cost_ms:.2f}x", *price,
    ]  # fmt: skip


def _million(point: Point, cpu_hour_price: float) -> float:
    """Give the price of a million texts: 1e6 * cost / 3.6e6 ms an hour * price."""
    return point.cost_ms / 3.6 * cpu_hour_price


def write_report(report: CascadeReport, out: Path) -> None:
    """Write report.json and report.html to a temporary sibling and rename it to `out`."""
    with sole_writer(out), atomic_directory(out) as staging:
        (staging / REPORT).write_bytes(canonical_json(asdict(report)))
        (staging / "report.html").write_text(page(report), encoding="utf-8")


def page(report: CascadeReport) -> str:
    """Write the report as one HTML file."""
    student, teacher = report.curve[0], report.teacher_alone
    figure = Figure(
        plot(report.curve, report.guaranteed, teacher), "Accuracy against cost", "the table has the figures"
    )
    return Page(
        title="Cascade", heading="A student with its teacher behind it",
        about=f"{report.student} before {report.teacher}, {report.rows:,} rows of {report.split}; "
        f"{report.environment['cpu']}, one thread",
        command="toolkit cascade", created=report.created,
        headlines=[
            (percent(student.accuracy, 2), f"accuracy of the student, {student.cost_ms:.3g} ms a text"),
            (percent(teacher.accuracy, 2), f"accuracy of the teacher, {teacher.cost_ms:.3g} ms a text"),
            *((percent(point.accuracy, 2), f"accuracy of the guaranteed cascade, {point.cost_ms:.3g} ms a text")
              for point in (report.guaranteed,) if point is not None),
        ],
        sections=[
            Section("Cost", report.promises, [figure], table_of(report)), Section("Method", METHOD),
        ],
    ).render()  # fmt: skip


def plot(curve: Sequence[Point], guaranteed: Point | None, teacher: Point) -> str:
    """Plot accuracy in percent over mean cost in ms: the curve, both models alone, and the guaranteed point."""

    def draw(axes: Any) -> None:
        """Draw the curve, the straight line of chance between its ends, and a mark for each named point."""
        axes.plot(
            [point.cost_ms for point in curve], [100 * point.accuracy for point in curve], color=series(1),
            linewidth=2, label="cascade, every threshold",
        )  # fmt: skip
        ends = curve[0], curve[-1]
        axes.plot(
            [point.cost_ms for point in ends], [100 * point.accuracy for point in ends], color=MUTED, linewidth=1.2,
            linestyle=":", label="texts sent on by chance",
        )  # fmt: skip
        marks = {"student alone": curve[0], "teacher alone": teacher, "guaranteed": guaranteed}
        for i, (name, point) in enumerate(marks.items()):
            if point is not None:
                mark: dict[str, Any] = {"s": 80, "zorder": 3, "color": series(i + 2), "marker": MARKERS[i]}
                axes.scatter(point.cost_ms, 100 * point.accuracy, label=name, **mark)
        axes.set_xlabel("ms of one CPU a text")
        axes.set_ylabel("accuracy, %")
        legend(axes, ncols=2)

    return svg("cascade", draw, height=4.0)
