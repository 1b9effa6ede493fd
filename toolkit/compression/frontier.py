"""The frontier of a search: accuracy against latency and size of everything that was tried, as JSON and as a page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from toolkit.compression.plan import Plan
from toolkit.config import Config
from toolkit.console import echo, show_table
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file, canonical_json
from toolkit.measurement.environment import environment, tool_versions
from toolkit.measurement.statistics import undominated
from toolkit.models.student import Shape
from toolkit.reports.html_page import Figure, Page, Section
from toolkit.reports.svg import MARKERS, MUTED, legend, plain_log, series, svg
from toolkit.reports.table import Table, percent

SCHEMA_VERSION = 1
JSON, HTML = "frontier.json", "frontier.html"
Role = Literal["teacher", "start", "trial", "finished", "chosen"]
ROLES: dict[Role, str] = {
    "teacher": "the teacher, fp32 in PyTorch", "start": "projected, not trained", "trial": "trained, not exported",
    "finished": "exported, int8", "chosen": "the answer, int8",
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A model of the frontier.

    Attributes:
        name: of its shape.
        role: how far it came.
        training: its epochs, in words.
        dev: the metric on dev, in percent.
        latency_ms, size_mb: of its int8 graph as measured, else by the price list; of the teacher as it is.
        command: makes it again, in the folder of the search; empty for the teacher.
        test: the metric on test, in percent, of the answer where there is a test split.
        words: how its word embeddings are stored; empty for the teacher.
    """

    name: str
    role: Role
    training: str
    dev: float
    latency_ms: float
    size_mb: float
    command: str
    test: float | None = None
    words: str = ""


def command_of(name: str, config: Config) -> str:
    """Write the command that has these options, those with their default left out."""
    words = ["toolkit", name]
    for field in fields(config):  # type: ignore[arg-type]
        value, option = getattr(config, field.name), f"--{field.name.replace('_', '-')}"
        if value == field.default or value is None:
            continue
        if field.metadata.get("argument"):
            words.insert(2, str(value))
        elif value is True:
            words.append(option)
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [option, f"{each:g}" if isinstance(each, float) else str(each)]
    return shlex.join(words)


def read_frontier(out: Path) -> tuple[str, list[Point]]:
    """Read the metric and the points of a search, one that was stopped too.

    Raises:
        ToolkitError: there is none yet.
    """
    try:
        content = json.loads((out / JSON).read_bytes())
    except OSError:
        raise ToolkitError(
            f"{out} has no {JSON}", expected="a search that has trained a student", fix="the same command without it"
        ) from None
    return content["metric"], [Point(**point) for point in content["points"]]


def say_frontier(out: Path) -> None:
    """Show the points of a search as a table, each with its number.

    Raises:
        ToolkitError: there is none yet.
    """
    metric, points = read_frontier(out)
    table = _table(points, metric)
    show_table(f"{table.title}: {out / HTML}", table.columns, table.rows)
    echo("+: no faster model is as good. --pick N finishes the student of that number and makes it the answer")


def picked(out: Path, number: int) -> Shape:
    """Return the shape of the point with this number.

    Raises:
        ToolkitError: there is no such student.
    """
    _, points = read_frontier(out)
    if number > len(points) or points[number - 1].role == "teacher":
        raise ToolkitError(
            f"--pick {number}: there is no such student", expected="a number that --list shows, not the teacher's"
        )
    return Shape.parse(points[number - 1].name)


def write_frontier(out: Path, points: Sequence[Point], plan: Plan, metric: str, command: str) -> None:
    """Write frontier.json and frontier.html.

    Args:
        out: folder of the search.
        points: all that was tried, and the teacher; they are numbered by rising latency.
        plan: the budget and the price list.
        metric: the task's.
        command: of the search.
    """
    errors, points = plan.prices.errors, sorted(points, key=lambda point: point.latency_ms)
    content = {
        "schema_version": SCHEMA_VERSION, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": environment()["cpu"], "versions": tool_versions(), "command": command, "metric": metric,
        "budget": asdict(plan.budget), "price_list": {"shapes": len(plan.prices.timed), **asdict(errors)},
        "points": [asdict(point) for point in points],
    }  # fmt: skip
    for name, data in ((JSON, canonical_json(content)), (HTML, _page(content, points, plan).encode())):
        with atomic_file(out / name) as partial:
            partial.write_bytes(data)


def _page(content: dict[str, Any], points: Sequence[Point], plan: Plan) -> str:
    metric, errors = content["metric"].replace("_", " "), plan.prices.errors
    chosen = next((point for point in points if point.role == "chosen"), None)
    where = "the table of this page has the numbers"
    figures = [
        Figure(_plot("latency", points, lambda point: point.latency_ms, "ms a text", metric, plan.budget.latency_ms),
               f"dev {metric} against latency", where),
        Figure(_plot("size", points, lambda point: point.size_mb, "MB", metric, plan.budget.size_mb),
               f"dev {metric} against size", where),
    ]  # fmt: skip
    return Page(
        title="Compression", heading=f"{chosen.name} is the answer" if chosen else "Nothing is within the budget",
        about=f"{plan.budget}; {content['cpu']}", command=content["command"], created=content["created"],
        headlines=_headlines(points, chosen),
        sections=[
            Section("Frontier", [
                "A point is a model; along the line no cheaper model is as good. The dashed line is the limit. What "
                "was exported is measured and scored as int8; the others are scored in PyTorch, and their costs are "
                "those of the price list. A whole training usually gives more than few epochs.",
            ], figures, _table(points, metric)),
            Section("Commands", ["Each makes its model again."], table=_commands(points), folded=True),
            Section("Price list", [
                f"{len(plan.prices.timed)} shapes were measured. Each predicted by the others, the median error is "
                f"{percent(errors.median)}, the largest {percent(errors.largest)}.",
            ]),
        ],
    ).render()  # fmt: skip


def _headlines(points: Sequence[Point], chosen: Point | None) -> list[tuple[str, str]]:
    teacher = next(point for point in points if point.role == "teacher")
    if chosen is None:
        return [(f"{teacher.dev:.2f}", "the teacher on dev")]
    headlines = [
        (f"{chosen.latency_ms:.3g} ms", f"a text; the teacher {teacher.latency_ms:.3g} ms"),
        (f"{chosen.size_mb:.3g} MB", f"of the graph; the teacher {teacher.size_mb:.3g} MB"),
        (f"{chosen.dev:.2f}", f"on dev; the teacher {teacher.dev:.2f}"),
    ]
    if chosen.test is not None:
        headlines.append(
            (f"{chosen.test:.2f}", "on test" + (f"; the teacher {teacher.test:.2f}" if teacher.test else ""))
        )
    return headlines


def _table(points: Sequence[Point], metric: str) -> Table:
    best = undominated(points, lambda point: point.latency_ms, lambda point: point.dev)
    rows = [
        [f"{number}{' +' if point in best else ''}", point.name, ROLES[point.role], point.training, f"{point.dev:.2f}",
         "-" if point.test is None else f"{point.test:.2f}", f"{point.latency_ms:.3f}", f"{point.size_mb:.2f}",
         point.words or "-"]
        for number, point in enumerate(points, start=1)
    ]  # fmt: skip
    columns = [
        "", "layers/hidden/FFN/heads", "what", "training", f"dev {metric}, %", "test", "ms a text", "MB",
        "word embeddings",
    ]  # fmt: skip
    if all(point.words in ("", "8 bits") for point in points):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table("All that was tried", columns, rows)


def _commands(points: Sequence[Point]) -> Table:
    rows = [[f"{point.name}, {ROLES[point.role]}", point.command] for point in points if point.command]
    return Table("Commands", ["model", "command"], rows)


def _plot(
    name: str, points: Sequence[Point], price: Callable[[Point], float], unit: str, metric: str, limit: float | None
) -> str:
    """Plot dev over a price, a colour and a marker for each role, and the line of what is not dominated."""

    def draw(axes: Any) -> None:
        """Draw the points of each role, the steps of the frontier and the limit, over a logarithmic price."""
        for i, (role, words) in enumerate(ROLES.items()):
            if of_role := [point for point in points if point.role == role]:
                size = 160 if role == "chosen" else 60
                values = [price(point) for point in of_role], [point.dev for point in of_role]
                axes.scatter(*values, s=size, color=series(i), marker=MARKERS[i], label=words)
        best = undominated(points, price, lambda point: point.dev)
        line = [price(point) for point in best], [point.dev for point in best]
        axes.step(*line, where="post", color=MUTED, linewidth=1.2, linestyle=":")
        if limit is not None:
            axes.axvline(limit, color=MUTED, linestyle="--")
        axes.set_xscale("log")
        plain_log(axes.xaxis)
        axes.set_xlabel(unit)
        axes.set_ylabel(f"dev {metric}, %")
        legend(axes, ncols=2, columnspacing=1, handlelength=1)

    return svg(f"frontier-{name}", draw, height=4.2)
