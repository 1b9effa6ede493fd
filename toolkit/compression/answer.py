"""The answer of a search: the best candidate, trained at full length, exported, measured and held to the budget."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path

from export.pipeline import run_export
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.bundle.provenance import run_or_reuse
from toolkit.compression.budget import Budget, Cost
from toolkit.compression.material import whole_epochs
from toolkit.compression.plan import Plan
from toolkit.compression.search import Search, dev_score, student_folder
from toolkit.compression.timing import latency_ms
from toolkit.config import CompressConfig, ExportConfig
from toolkit.console import echo
from toolkit.errors import GateError
from toolkit.files import atomic_directory
from toolkit.inference.runtimes import OnnxRuntime
from toolkit.models.student import Shape

INT8 = "int8"  # the answer's folder in that of the search


@dataclass(frozen=True)
class Finished:
    """A student that was trained at full length and exported.

    Attributes:
        shape: of the student.
        bundle: its int8 graph.
        cost: latency as measured, size, and points lost on dev.
    """

    shape: Shape
    bundle: Bundle
    cost: Cost


@dataclass(frozen=True)
class Outcome:
    """The students that were finished, and what came of them.

    Attributes:
        finished: in the order of their finishing.
        answer: the one that is within the budget, or None.
        missed: why others could not be exported.
    """

    finished: tuple[Finished, ...]
    answer: Finished | None
    missed: tuple[str, ...]


def finish(search: Search, plan: Plan) -> Outcome:
    """Finish candidates, the best one first, until one is within the budget or time is up; one is finished always."""
    finished: list[Finished] = []
    missed: list[str] = []
    cheapest_first = sorted(plan.candidates, key=lambda shape: plan.cost(shape).latency_ms)
    for shape in search.ranking(cheapest_first):
        if (finished or missed) and not search.has_time(shape, whole_epochs(search.config)):
            break
        try:
            finished.append(_finish(search, plan, shape))
        except GateError as error:
            missed.append(f"{shape}: {error.problem}")
            echo(missed[-1])
            continue
        if plan.budget.holds(finished[-1].cost):
            return Outcome(tuple(finished), finished[-1], tuple(missed))
        echo(f"{shape} is not within the budget: {plan.budget.gives(finished[-1].cost)} would let it in")
    return Outcome(tuple(finished), None, tuple(missed))


def no_answer(outcome: Outcome, budget: Budget) -> GateError:
    """Say that no finished student is within the budget, which is the nearest, and what would have to give."""
    more = "more --hours, or --unlabelled text to learn from"
    if not outcome.finished:
        return GateError("no candidate could be exported\n" + "\n".join(outcome.missed), fix=f"{more}, or --max-drop")
    nearest = min(outcome.finished, key=lambda finished: budget.excess(finished.cost))
    cost = nearest.cost
    return GateError(
        f"no finished student is within the budget ({budget}): the nearest, {nearest.shape}, "
        f"takes {cost.latency_ms:.3g} ms a text and {cost.size_mb:.3g} MB, and loses {cost.drop:.2f} points",
        expected=f"at least {budget.gives(cost)}", fix=more,
    )  # fmt: skip


def take(out: Path, answer: Finished) -> Bundle:
    """Copy the answer to its place in the folder of the search."""
    with atomic_directory(out / INT8) as staging:
        shutil.copytree(answer.bundle.path, staging, dirs_exist_ok=True)
    return open_bundle(out / INT8)


def _finish(search: Search, plan: Plan, shape: Shape) -> Finished:
    student = search.train(shape, None)
    bundle = run_or_reuse(f"{shape}, int8", export_of(search.config, shape), run_export, student)
    latency = latency_ms(
        OnnxRuntime(bundle.weights, threads=search.config.threads, spinning="running"), plan.lengths,
        search.config.threads,
    )  # fmt: skip
    drop = round(search.teacher_score - dev_score(bundle.manifest), 6)
    cost = Cost(latency, bundle.weight_bytes / 1e6, drop)
    echo(f"{shape}, int8: {latency:.3f} ms a text, {cost.size_mb:.2f} MB, {drop:.2f} points lost on dev")
    return Finished(shape, bundle, cost)


def export_of(config: CompressConfig, shape: Shape) -> ExportConfig:
    """Give the options of `toolkit export` that export a finished student in the folder of the search."""
    student = student_folder(Path(config.out), shape, None)
    own, names = ({field.name for field in fields(options)} for options in (CompressConfig, ExportConfig))
    shared = {name: getattr(config, name) for name in own & names - {"out", "max_drop"}}
    export = ExportConfig(str(student), str(student.with_name(INT8)), **shared)
    # the budget bounds what the student and its rounding lose together; where it allows more, rounding may take it
    return export if config.max_drop is None else replace(export, max_drop=max(config.max_drop, export.max_drop))
