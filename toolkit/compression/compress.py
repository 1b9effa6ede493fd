"""`toolkit compress`: from a budget to a bundle."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from toolkit.benchmarking.random_models import torch_threads
from toolkit.bundle.format import Bundle, check_output_path
from toolkit.bundle.scores import split_of, teacher_metrics_on
from toolkit.compression.answer import Finished, Outcome, export_of, finish, no_answer, take
from toolkit.compression.frontier import JSON, Point, command_of, write_frontier
from toolkit.compression.material import Material, open_material
from toolkit.compression.plan import Plan, make_plan, measure_candidates, say_plan
from toolkit.compression.search import STORE, Search
from toolkit.compression.timing import Timed, latency_ms
from toolkit.config import CompressConfig
from toolkit.console import echo
from toolkit.files import sole_writer
from toolkit.inference.runtimes import TorchRuntime
from toolkit.models.loading import Source
from toolkit.models.student import Shape


def run_compress(config: CompressConfig) -> Bundle | None:
    """Find the best student of a teacher within a budget, and write it, exported, to OUT/int8, with OUT/frontier.html.

    Returns:
        The bundle; None for a dry run.

    Raises:
        ToolkitError: options, data or a teacher that cannot be used, or a folder of something else.
        GateError: nothing is within the budget; names the nearest and what would have to give.
    """
    config.check()
    out = Path(config.out)
    check_output_path(out, STORE, "search", [config.teacher])
    with tempfile.TemporaryDirectory() as workdir:
        material = open_material(config, Path(workdir))
    plan = make_plan(config, material)
    say_plan(config, material, plan)
    if config.dry_run:
        return None
    out.mkdir(exist_ok=True)
    with sole_writer(out / JSON):
        return _search(config, material, plan)


def _search(config: CompressConfig, material: Material, plan: Plan) -> Bundle:
    search, references = Search(config, material), material.references
    plan = _measured(search, plan)
    search.score_starts(list(dict.fromkeys([*references, *plan.candidates])))
    search.train_candidates(plan)
    outcome = finish(search, plan)
    bundle = take(search.out, outcome.answer) if outcome.answer else None
    search.train_references([shape for shape in references if shape not in plan.candidates])
    points = [_teacher(search, plan, outcome), *_tried(search, plan, outcome)]
    write_frontier(search.out, points, plan, search.recall("metric", ""), command_of("compress", config))
    echo(f"what was tried is in {search.out / 'frontier.html'}")
    if bundle is None:
        raise no_answer(outcome, plan.budget)
    metric, split = bundle.task.metric, bundle.split
    teacher = (teacher_metrics_on(bundle.manifest, split) or {}).get(metric)
    beside = "" if teacher is None else f", the teacher {100 * teacher:.2f}"
    echo(f"{bundle.path}: {split} {metric} {100 * bundle.metrics[metric]:.2f}{beside}")
    return bundle


def _measured(search: Search, plan: Plan) -> Plan:
    """Measure the candidates, or take those that an earlier command measured: a search goes on with the same ones."""
    if (timed := search.recall("timed", None)) is None:
        plan = measure_candidates(plan, search.material.references, search.config.threads)
        search.remember("candidates", [str(shape) for shape in plan.candidates])
        search.remember("timed", [shape.to_dict() for shape in plan.prices.timed])
        return plan
    prices = replace(plan.prices, timed=tuple(map(Timed.from_dict, timed)))
    return replace(plan, prices=prices, candidates=tuple(map(Shape.parse, search.recall("candidates", []))))


def _teacher(search: Search, plan: Plan, outcome: Outcome) -> Point:
    """Measure the teacher as it is: in PyTorch, at the lengths of the data. Test is scored with the answer."""
    config, material = search.config, search.material
    with tempfile.TemporaryDirectory() as workdir, torch_threads(config.threads):
        runtime = TorchRuntime(Source(config.teacher, Path(workdir)).classifier())
        latency = latency_ms(runtime, plan.lengths, config.threads)
        size = sum(parameter.numel() * 4 for parameter in runtime.model.parameters()) / 1e6
    scores = teacher_metrics_on(outcome.answer.bundle.manifest, "test") if outcome.answer else None
    test = 100 * scores[search.recall("metric", "")] if scores else None
    return Point(str(material.teacher), "teacher", "", search.teacher_score, latency, size, "", test)


def _tried(search: Search, plan: Plan, outcome: Outcome) -> list[Point]:
    """List every shape that was started, as far as it came."""
    finished = {student.shape: student for student in outcome.finished}
    return [
        _finished_point(search, finished[shape], chosen=finished[shape] is outcome.answer)
        if shape in finished else _trial_point(search, plan, shape)
        for shape in search.starts
    ]  # fmt: skip


def _finished_point(search: Search, student: Finished, *, chosen: bool) -> Point:
    shape, cost, manifest = student.shape, student.cost, student.bundle.manifest
    assert cost.drop is not None
    distill = replace(search.training_of(shape, None), overwrite=True)
    export = replace(export_of(search.config, shape), overwrite=True)
    command = f"{command_of('distill', distill)} && {command_of('export', export)}"
    test = 100 * student.bundle.metrics[student.bundle.task.metric] if chosen and split_of(manifest) == "test" else None
    return Point(
        str(shape), "chosen" if chosen else "finished", "whole", search.teacher_score - cost.drop, cost.latency_ms,
        cost.size_mb, command, test,
    )  # fmt: skip


def _trial_point(search: Search, plan: Plan, shape: Shape) -> Point:
    cost, (dev, epochs) = plan.cost(shape), search.score_of(shape)
    command = command_of("distill", replace(search.training_of(shape, epochs), overwrite=True))
    words = f"{epochs[0]} + {epochs[1]} epochs"
    return Point(str(shape), "trial" if any(epochs) else "start", words, dev, cost.latency_ms, cost.size_mb, command)
