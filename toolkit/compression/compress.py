"""`toolkit compress`: from a budget to a bundle."""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from toolkit.benchmarking.random_models import torch_threads
from toolkit.bundle.format import Bundle, check_output_path
from toolkit.bundle.scores import teacher_metrics_on
from toolkit.compression.answer import finish, no_answer, take
from toolkit.compression.bundles import Bundles
from toolkit.compression.frontier import JSON, picked, say_frontier
from toolkit.compression.material import Material, open_material
from toolkit.compression.plan import Plan, make_plan, measure_candidates, say_plan
from toolkit.compression.points import Points
from toolkit.compression.search import STORE, Search
from toolkit.compression.timing import Timed, latency_ms
from toolkit.compression.trainings import RETRIES, Epochs, whole_epochs
from toolkit.config import CompressConfig
from toolkit.console import echo
from toolkit.errors import GateError
from toolkit.files import sole_writer
from toolkit.inference.runtimes import TorchRuntime
from toolkit.models.loading import Source
from toolkit.models.student import Shape


def run_compress(config: CompressConfig) -> Bundle | None:
    """Find the best student of a teacher within a budget, and write it, exported, to OUT/int8, with OUT/frontier.html.

    Returns:
        The bundle; None for a dry run or a list.

    Raises:
        ToolkitError: options, data or a teacher that cannot be used, or a folder of something else.
        GateError: nothing is within the budget; names the nearest and what would have to give. Or the student that is
            picked cannot be exported.
    """
    config.check()
    out = Path(config.out)
    check_output_path(out, STORE, "search", [config.teacher])
    if config.list:
        say_frontier(out)
        return None
    pick = picked(out, config.pick) if config.pick is not None else None
    with _joined(config):
        with tempfile.TemporaryDirectory() as workdir:
            material = open_material(config, Path(workdir))
        plan = make_plan(config, material)
        say_plan(config, material, plan)
        if config.dry_run:
            return None
        out.mkdir(exist_ok=True)
        with sole_writer(out / JSON):
            search = _opened(config, material)
            plan = _measured(search, plan)
            return _search(search, plan) if pick is None else _pick(search, plan, pick)


def _joined(config: CompressConfig) -> AbstractContextManager[object]:
    """Join the cluster of --ray, if something will be trained there, before hours of work."""
    if config.ray is None or config.dry_run:
        return nullcontext()
    from toolkit.scoring.cluster import cluster  # imports pyarrow, which a search here does not need at once

    # without it Ray tries for ever what runs out of memory; it is read when Ray is imported
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
    return cluster(config.ray, None)


def _opened(config: CompressConfig, material: Material) -> Search:
    if config.ray is None:
        return Search(config, material)
    from toolkit.compression.cluster import ClusterSearch  # imports ray, an extra

    return ClusterSearch(config, material)


def _search(search: Search, plan: Plan) -> Bundle:
    references = search.material.references
    search.score_starts(list(dict.fromkeys([*plan.candidates, *references])))
    bundles = Bundles(search, plan)
    points = Points(bundles, _teacher_cost(search, plan))

    def trained(shape: Shape, epochs: Epochs) -> None:
        if search.quiet:
            bundles.add(shape, epochs)
        points.write(None)

    search.train_candidates(plan, trained)
    for student in search.students:  # those that could not be timed beside the training of others
        trained(*student)
    answer = finish(bundles)
    bundle = take(search.out, answer) if answer else None
    search.train_references([shape for shape in references if shape not in plan.candidates], trained)
    points.write(answer)
    echo(f"what was tried is in {search.out / 'frontier.html'}")
    if bundle is None:
        raise no_answer(bundles)
    _say_answer(bundle)
    return bundle


def _pick(search: Search, plan: Plan, shape: Shape) -> Bundle:
    """Finish a student of the frontier and make it the answer, whatever the budget."""
    bundles, epochs = Bundles(search, plan), whole_epochs(search.config)
    bundles.finish(shape, epochs)
    student = bundles.finished.get((shape, epochs))
    if student is None:
        reasons = [reason for reason in bundles.missed if reason.startswith(f"{shape}, ")]
        raise GateError("\n".join([f"{shape} cannot be exported", *reasons]), fix="another --pick")
    if not plan.budget.holds(student.cost):
        echo(f"{shape} is not within the budget: {plan.budget.gives(student.cost)} would let it in")
    bundle = take(search.out, student)
    Points(bundles, _teacher_cost(search, plan)).write(student)
    _say_answer(bundle)
    return bundle


def _say_answer(bundle: Bundle) -> None:
    metric, split = bundle.task.metric, bundle.split
    teacher = (teacher_metrics_on(bundle.manifest, split) or {}).get(metric)
    beside = "" if teacher is None else f", the teacher {100 * teacher:.2f}"
    echo(f"{bundle.path}: {split} {metric} {100 * bundle.metrics[metric]:.2f}{beside}")


def _measured(search: Search, plan: Plan) -> Plan:
    """Measure the candidates, or take those that an earlier command measured: a search goes on with the same ones."""
    if (timed := search.recall("timed", None)) is None:
        plan = measure_candidates(plan, search.material.references, search.config.threads)
        search.remember("candidates", [str(shape) for shape in plan.candidates])
        search.remember("timed", [shape.to_dict() for shape in plan.prices.timed])
        return plan
    prices = replace(plan.prices, timed=tuple(map(Timed.from_dict, timed)))
    return replace(plan, prices=prices, candidates=tuple(map(Shape.parse, search.recall("candidates", []))))


def _teacher_cost(search: Search, plan: Plan) -> tuple[float, float]:
    """Measure the teacher as it is, once: ms a text in PyTorch at the lengths of the data, and megabytes."""
    if (cost := search.recall("teacher cost", None)) is None:
        threads = search.config.threads
        with tempfile.TemporaryDirectory() as workdir, torch_threads(threads):
            runtime = TorchRuntime(Source(search.config.teacher, Path(workdir)).classifier())
            size = sum(parameter.numel() * 4 for parameter in runtime.model.parameters()) / 1e6
            cost = latency_ms(runtime, plan.lengths, threads), size
        search.remember("teacher cost", cost)
    return cost[0], cost[1]
