"""The report of a distillation: report.json is the record of the training, report.html shows it to people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

from toolkit.bundle.manifest import Manifest, ScoredSplit, Scores, Selection
from toolkit.bundle.scores import scores_by_split
from toolkit.data.tokenization import TextEncoder, TokenizedInputs
from toolkit.data.truncation import Truncation
from toolkit.distillation import plots
from toolkit.distillation.attention_maps import AttentionMap, ModelSize, attention_maps, describe
from toolkit.distillation.initialization.student import ModelPair
from toolkit.files import canonical_json
from toolkit.measurement.environment import tool_versions
from toolkit.reports.html_page import Figure, Page, Section
from toolkit.reports.table import Table, duration, percent
from toolkit.tasks import TaskRecord

SCHEMA_VERSION = 1
FROM_MANIFEST = (
    "kind", "task", "parent", "config", "seed", "metrics", "teacher_metrics", "start_metrics", "layer_map", "data",
    "stages", "agreement", "split", "dev_scores", "selection",
)  # fmt: skip


class StageRecord(TypedDict):
    """A stage as the bundle's manifest holds it."""

    precision: str
    steps: int
    seconds: float
    best_step: int | None
    best_metric: float | None
    history: list[dict[str, float]]


class RunReport(TypedDict):
    """The content of report.json, as far as the page reads it; scores need a task."""

    created: str
    phases: dict[str, float]
    task: TaskRecord | None
    config: dict[str, object]
    seed: int
    split: NotRequired[ScoredSplit]
    metrics: dict[str, float]
    teacher_metrics: NotRequired[dict[str, float]]
    start_metrics: NotRequired[dict[str, float]]
    dev_scores: NotRequired[Scores]
    selection: NotRequired[Selection | None]
    layer_map: list[int]
    stages: dict[str, StageRecord]
    student: ModelSize
    teacher: NotRequired[ModelSize]
    encoder: NotRequired[ModelSize]
    agreement: NotRequired[float]
    attention: list[AttentionMap]
    truncation: dict[str, dict[str, int]]


class PhaseTimer:
    """Seconds of each phase: `with phases("scoring the teacher"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase of this name."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


def write_run_report(
    manifest: Manifest, phases: PhaseTimer, models: ModelPair, texts: TokenizedInputs, encoder: TextEncoder,
    staging: Path, truncation: Mapping[str, Truncation] | None = None,
) -> None:  # fmt: skip
    """Write report.json and report.html beside the student's weights.

    Args:
        manifest: of the bundle that is being written.
        phases: seconds of each phase.
        models: the student and those that it learnt from.
        texts: inputs, of which a few show attention.
        encoder: names their tokens.
        staging: the bundle's directory.
        truncation: shares that are cut, by split.
    """
    teachers = {"teacher": models.teacher} | (
        {"encoder": models.layer_teacher} if models.layer_teacher is not models.teacher else {}
    )
    content = {
        "schema_version": SCHEMA_VERSION, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "phases": {name: round(seconds, 2) for name, seconds in phases.seconds.items()}, "versions": tool_versions(),
        **{name: value for name, value in manifest.items() if name in FROM_MANIFEST},
        "student": describe(models.student),
        **{name: describe(model) for name, model in teachers.items() if model is not None},
        "attention": [] if models.layer_teacher is None else attention_maps(
            models.student, models.layer_teacher, models.mapping, texts, encoder.tokens
        ),
        "truncation": {name: asdict(counts) for name, counts in (truncation or {}).items()},
    }  # fmt: skip
    (staging / "report.json").write_bytes(canonical_json(content))
    (staging / "report.html").write_text(page(cast(RunReport, content)), encoding="utf-8")


def page(content: RunReport) -> str:
    """Render the report as one HTML file."""
    sections = [
        *([Section("Scores", [_selection_note(content)], table=_metric_table(content))] if content["metrics"] else []),
        Section("Learning", figures=list(_stage_figures(content)), table=_loss_table(content)),
        Section("Layers", figures=list(_layer_figures(content)), table=_model_table(content)),
        *([_attention(content)] if "teacher" in content else []),
        *([Section("Length", table=_truncation_table(content))] if content["truncation"] else []),
        Section("Time", table=_phase_table(content)),
        Section("Options", table=_option_table(content), folded=True),
    ]
    config = content["config"]
    return Page(
        title=f"Distillation: {_name(content)}",
        heading=_summary(content),
        about=f"teacher {config['teacher'] or config['teacher_scores']}, "
        f"student {content['student']['shape']}, seed {content['seed']}",
        command="toolkit distill",
        created=content["created"],
        headlines=_headlines(content),
        sections=sections,
    ).render()


def _layer_figures(content: RunReport) -> Iterator[Figure]:
    if content["layer_map"]:
        name = _layers_of(content)
        layers = int(content[name]["shape"].partition("/")[0])
        yield Figure(
            plots.layer_map(content["layer_map"], layers), f"Which {name} layer each student layer learns from",
            f"{name} layers {', '.join(map(str, content['layer_map']))}",
        )  # fmt: skip


def _layers_of(content: RunReport) -> Literal["teacher", "encoder"]:
    """Name the model whose layers the student learnt."""
    return "encoder" if "encoder" in content else "teacher"


def _name(content: RunReport) -> str:
    return content["task"]["name"] if content["task"] else "general"


def _metric(content: RunReport) -> str | None:
    return content["task"]["metrics"][0] if content["task"] else None


def _summary(content: RunReport) -> str:
    metric = _metric(content)
    if metric is None:
        return "A general student, ready for a task"
    retention = _retention(content, metric)
    return f"{_name(content)}: {retention} of the teacher kept" if retention else f"{_name(content)}: distilled"


def _retention(content: RunReport, metric: str) -> str:
    teacher = content["teacher_metrics"].get(metric, 0.0)
    return percent(content["metrics"][metric] / teacher) if teacher > 0 else ""


def _headlines(content: RunReport) -> list[tuple[str, str]]:
    """Return a number and its meaning for each headline."""
    headlines = []
    if metric := _metric(content):
        teacher, student = content["teacher_metrics"].get(metric), 100 * content["metrics"][metric]
        beside = "" if teacher is None else f"; the teacher {100 * teacher:.2f}"
        headlines.append((f"{student:.2f}", f"{content['split']} {metric.replace('_', ' ')}, %{beside}"))
    if "agreement" in content:
        headlines.append((percent(content["agreement"]), "agreement with the teacher's answers on dev"))
    if "teacher" in content:
        small, large = content["student"]["parameters"], content["teacher"]["parameters"]
        sizes = f"{small / 1e6:.2f}M parameters, the teacher {large / 1e6:.2f}M"
        headlines.append((f"{large / small:.1f}x smaller", sizes))
    headlines.append((duration(sum(content["phases"].values())), "from the command to the student"))
    return headlines


def _stage_figures(content: RunReport) -> Iterator[Figure]:
    for stage, result in content["stages"].items():
        history, table = result["history"], "the table of this section has where each began and ended"
        title = f"Losses of the {stage} stage, over {result['steps']:,} steps"
        yield Figure(plots.losses(stage, history), title, table)
        metric = _metric(content)
        if metric and any("selection" in row for row in history):
            name = metric.replace("_", " ")
            svg = plots.selection_metric(stage, history, name)
            caption = f"The {name} of the rows that choose the step, in the {stage} stage; the best step is kept"
            yield Figure(svg, caption, table)


def _attention(content: RunReport) -> Section:
    note = (
        "Attention probabilities, the mean over heads: each row is a query, darker is more. "
        f"The {_layers_of(content)}'s layers above."
    )
    if not content["layer_map"]:
        note = "This teacher taught by its answers only: no layers are compared."
    elif not content["attention"]:
        note = "The attention of this teacher's family is not recorded."
    figures = [
        Figure(plots.attention(maps), " ".join(maps["tokens"]), "the numbers are in report.json")
        for maps in content["attention"]
    ]
    return Section("Attention", [note], figures)


def _selection_note(content: RunReport) -> str:
    selection = content.get("selection")
    if not selection:
        return "No rows chose the step: the last one is kept."
    return f"{selection['rows']:,} rows of {selection['split']} chose the step; the rows of {content['split']} did not."


def _metric_table(content: RunReport) -> Table:
    rows = []
    for split, of_split in scores_by_split(cast(Manifest, content)).items():
        columns = (of_split["teacher_metrics"], of_split["start_metrics"], of_split["metrics"])
        for name in of_split["metrics"]:
            teacher, _, student = (metrics.get(name, 0.0) for metrics in columns)
            values = (f"{100 * metrics[name]:.2f}" if name in metrics else "-" for metrics in columns)
            kept = percent(student / teacher) if teacher > 0 else "-"
            rows.append([f"{split} {name.replace('_', ' ')}", *values, kept])
    return Table("Scores", ["metric, %", "teacher", "student before training", "student", "kept"], rows)


def _loss_table(content: RunReport) -> Table:
    rows = []
    for stage, result in content["stages"].items():
        readings = [row for row in result["history"] if "selection" not in row]
        for name in (name for name in (readings[0] if readings else {}) if name not in ("step", "seconds")):
            first, last = readings[0], readings[-1]
            rows.append([name, stage, f"{first[name]:.4g}", f"{last[name]:.4g}", f"{last['step']:,}"])
        start = next((row["selection"] for row in result["history"] if "selection" in row), None)
        if start is not None:
            best = f"{result['best_metric']:.4f} (best)"
            rows.append(["rows that choose", stage, f"{start:.4f}", best, f"{result['best_step']:,}"])
    return Table("Losses", ["what", "stage", "first reading", "last reading", "at step"], rows)


def _model_table(content: RunReport) -> Table:
    sizes = {name: content.get(name) for name in ("teacher", "encoder", "student")}
    models = [(name, cast(ModelSize, size)) for name, size in sizes.items() if size]
    rows = [[name, size["shape"], f"{size['parameters']:,}"] for name, size in models]
    return Table("Models", ["model", "layers/hidden/FFN/heads", "parameters"], rows)


def _truncation_table(content: RunReport) -> Table:
    counted = {name: Truncation(**counts) for name, counts in content["truncation"].items()}
    rows = [
        [name, f"{cut.texts:,}", str(cut.max_length), percent(cut.text_share), percent(cut.token_share)]
        for name, cut in counted.items()
    ]
    return Table("Texts that are cut", ["split", "texts", "cut at tokens", "texts cut", "tokens lost"], rows)


def _phase_table(content: RunReport) -> Table:
    total = sum(content["phases"].values()) or 1.0
    rows = [[name, duration(seconds), percent(seconds / total, 0)] for name, seconds in content["phases"].items()]
    return Table("Time", ["phase", "time", "share"], rows)


def _option_table(content: RunReport) -> Table:
    rows = [
        [f"--{name.replace('_', '-')}", "-" if value is None else str(value)]
        for name, value in content["config"].items()
    ]
    return Table("Options", ["option", "value"], rows)
