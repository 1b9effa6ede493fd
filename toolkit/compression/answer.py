"""The answer of a search: of all that was finished, exported and measured, the best that is within the budget."""

from __future__ import annotations

import shutil
from pathlib import Path

from toolkit.bundle.format import Bundle, open_bundle
from toolkit.compression.bundles import Bundles, Finished
from toolkit.compression.trainings import whole_epochs
from toolkit.console import echo
from toolkit.errors import GateError
from toolkit.files import atomic_directory

INT8 = "int8"  # the answer's folder in that of the search


def finish(bundles: Bundles) -> Finished | None:
    """Finish candidates, the best one first, until something is within the budget or time is up; return the answer.

    One candidate is trained whole whatever the time. The answer may be another one, of a short training even: it is the
    best on dev of all bundles within the budget.
    """
    search, plan, whole = bundles.search, bundles.plan, whole_epochs(bundles.search.config)
    cheapest_first = sorted(plan.candidates, key=lambda shape: plan.cost(shape).latency_ms)
    for number, shape in enumerate(search.ranking(cheapest_first)):
        is_whole = search.score_of(shape)[1] == whole
        if number and not is_whole and (bundles.within or not search.has_time(shape, whole)):
            break
        bundles.finish(shape, whole)
        if not bundles.within and (student := bundles.finished.get((shape, whole))):
            echo(f"{shape} is not within the budget: {plan.budget.gives(student.cost)} would let it in")
    return next(iter(bundles.within), None)


def no_answer(bundles: Bundles) -> GateError:
    """Say that no bundle is within the budget, which is the nearest, and what would have to give."""
    budget, more = bundles.plan.budget, "more --hours, or --unlabelled text to learn from"
    if not bundles.finished:
        return GateError("no candidate could be exported\n" + "\n".join(bundles.missed), fix=f"{more}, or --max-drop")
    nearest = min(bundles.finished.values(), key=lambda student: budget.excess(student.cost))
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
