"""A student's report: report.json is the record of how it learnt, report.html says the same to people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toolkit.distillation import plots
from toolkit.files import canonical_json
from toolkit.measurement.environment import tool_versions
from toolkit.reports.html_page import Figure, Page, Section
from toolkit.reports.table import Table

SCHEMA_VERSION = 1


class PhaseTimer:
    """Seconds by phase: `with phases("scoring the teacher"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside under this name."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


def write_run_report(manifest: dict[str, Any], phases: PhaseTimer, shown: dict[str, Any], staging: Path) -> None:
    """Write report.json and report.html beside the student's weights.

    Args:
        manifest: of the bundle that is being written.
        phases: where the time went.
        shown: "student" and "teacher", each with "shape" and "parameters", and "attention" from `attention_maps`.
        staging: the bundle's directory.
    """
    names = (
        "kind", "task", "parent", "config", "seed", "metrics", "teacher_metrics", "start_metrics", "layer_map", "data",
        "stages",
    )  # fmt: skip
    content = {
        "schema_version": SCHEMA_VERSION, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "phases": {name: round(seconds, 2) for name, seconds in phases.seconds.items()}, "versions": tool_versions(),
        **{name: manifest[name] for name in names if name in manifest}, **shown,
    }  # fmt: skip
    (staging / "report.json").write_bytes(canonical_json(content))
    (staging / "report.html").write_text(page(content), encoding="utf-8")


def page(content: dict[str, Any]) -> str:
    """The report as one HTML file."""
    teacher_layers = int(content["teacher"]["shape"].partition("/")[0])
    drawn = Figure(
        plots.layer_map(content["layer_map"], teacher_layers), "Which teacher layer each student layer learns from",
        f"teacher layers {', '.join(map(str, content['layer_map']))}",
    )  # fmt: skip
    sections = [
        *([Section("Dev metrics", table=_metric_table(content))] if content["metrics"] else []),
        Section("Learning", figures=list(_stage_figures(content)), table=_loss_table(content)),
        Section("Layers", figures=[drawn], table=_model_table(content)),
        _attention(content),
        Section("Time", table=_phase_table(content)),
        Section("Options", table=_option_table(content), folded=True),
    ]
    config = content["config"]
    return Page(
        title=f"Distillation: {_name(content)}",
        heading=_summary(content),
        about=f"teacher {config['teacher']}, student {content['student']['shape']}, seed {content['seed']}",
        command="toolkit distill",
        created=content["created"],
        headlines=_headlines(content),
        sections=sections,
    ).render()


def _name(content: dict[str, Any]) -> str:
    return content["task"]["name"] if content["task"] else "general"


def _metric(content: dict[str, Any]) -> str | None:
    return content["task"]["metrics"][0] if content["task"] else None


def _summary(content: dict[str, Any]) -> str:
    metric = _metric(content)
    if metric is None:
        return "A general student, ready for a task"
    kept = _kept(content, metric)
    return f"{_name(content)}: {kept} of the teacher kept" if kept else f"{_name(content)}: distilled"


def _kept(content: dict[str, Any], metric: str) -> str:
    teacher = content["teacher_metrics"][metric]
    return f"{content['metrics'][metric] / teacher:.1%}" if teacher > 0 else ""


def _headlines(content: dict[str, Any]) -> list[tuple[str, str]]:
    """A number and what it counts."""
    found = []
    if metric := _metric(content):
        teacher, student = (100 * content[name][metric] for name in ("teacher_metrics", "metrics"))
        found.append((f"{student:.2f}", f"dev {metric.replace('_', ' ')}, %; the teacher {teacher:.2f}"))
    mine, theirs = (content[name]["parameters"] for name in ("student", "teacher"))
    found.append((f"{theirs / mine:.1f}x smaller", f"{mine / 1e6:.2f}M parameters, the teacher {theirs / 1e6:.2f}M"))
    found.append((_duration(sum(content["phases"].values())), "from the command to the student"))
    return found


def _stage_figures(content: dict[str, Any]) -> Iterator[Figure]:
    for stage, fitted in content["stages"].items():
        history, table = fitted["history"], "the table of this section has where each began and ended"
        yield Figure(
            plots.losses(stage, history), f"Losses of the {stage} stage, over {fitted['steps']:,} steps", table
        )
        metric = _metric(content)
        if metric and any("dev" in row for row in history):
            svg = plots.dev_metric(stage, history, metric, content["teacher_metrics"][metric])
            yield Figure(svg, f"Dev {metric.replace('_', ' ')} in the {stage} stage; the best step is kept", table)


def _attention(content: dict[str, Any]) -> Section:
    note = (
        "Attention probabilities, the mean over heads: each row is a query, darker is more. The teacher's layers above."
    )
    figures = [
        Figure(plots.attention(shown), " ".join(shown["tokens"]), "the numbers are in report.json")
        for shown in content["attention"]
    ]
    return Section("Attention", [note], figures)


def _metric_table(content: dict[str, Any]) -> Table:
    rows = [
        [
            name.replace("_", " "), *(f"{100 * content[key][name]:.2f}" for key in
            ("teacher_metrics", "start_metrics", "metrics")), _kept(content, name) or "-",
        ]
        for name in content["metrics"]
    ]  # fmt: skip
    return Table("Dev metrics", ["metric, %", "teacher", "student before training", "student", "kept"], rows)


def _loss_table(content: dict[str, Any]) -> Table:
    rows = []
    for stage, fitted in content["stages"].items():
        readings = [row for row in fitted["history"] if "dev" not in row]
        for name in (name for name in (readings[0] if readings else {}) if name not in ("step", "seconds")):
            first, last = readings[0], readings[-1]
            rows.append([name, stage, f"{first[name]:.4g}", f"{last[name]:.4g}", f"{last['step']:,}"])
        devs = [row for row in fitted["history"] if "dev" in row]
        rows += [["dev", stage, f"{devs[0]['dev']:.4f}", f"{fitted['best_metric']:.4f} (best)",
                  f"{fitted['best_step']:,}"] for _ in devs[:1]]  # fmt: skip
    return Table("Losses", ["what", "stage", "first reading", "last reading", "at step"], rows)


def _model_table(content: dict[str, Any]) -> Table:
    rows = [[name, content[name]["shape"], f"{content[name]['parameters']:,}"] for name in ("teacher", "student")]
    return Table("Models", ["model", "layers/hidden/FFN/heads", "parameters"], rows)


def _phase_table(content: dict[str, Any]) -> Table:
    total = sum(content["phases"].values()) or 1.0
    rows = [[name, _duration(seconds), f"{seconds / total:.0%}"] for name, seconds in content["phases"].items()]
    return Table("Time", ["phase", "time", "share"], rows)


def _option_table(content: dict[str, Any]) -> Table:
    rows = [
        [f"--{name.replace('_', '-')}", "-" if value is None else str(value)]
        for name, value in content["config"].items()
    ]
    return Table("Options", ["option", "value"], rows)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
