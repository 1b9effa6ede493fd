"""The candidates of a search: the shapes that the price list lets into the budget, and what trying them takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from toolkit.compression.budget import Budget, Cost
from toolkit.compression.material import Material
from toolkit.compression.prices import PriceList, measured_price_list, number_bytes
from toolkit.compression.shapes import largest, shape_grid
from toolkit.compression.timing import Timed, time_shapes
from toolkit.compression.trainings import rungs
from toolkit.compression.words import Vocabulary, Words, choose_words
from toolkit.config import CompressConfig
from toolkit.console import echo, show_table
from toolkit.errors import GateError
from toolkit.models.student import Shape
from toolkit.reports.table import duration, percent

CANDIDATES = 16
STARTED = 2  # of the starts, one in so many is trained
REDUCTION = 3  # of the short trainings, one in so many goes on to a whole one, which takes about as many times as long
ROUNDS = 3  # of measuring candidates, which makes prices near the limit better, and choosing them again
FEWER_PIECES = "--trim-vocabulary FILE, with text like what the model will read: fewer word pieces are kept then"


@dataclass(frozen=True)
class Plan:
    """The shapes to try and what they cost.

    Attributes:
        budget: the limits.
        prices: of shapes on this machine.
        grid: all shapes that can be projected from the teacher, the paper's among them.
        candidates: those to try.
        lengths: of texts, as many as stand for the data's.
        vocabulary: what a student's may be cut to; None keeps it whole.
    """

    budget: Budget
    prices: PriceList
    grid: tuple[Shape, ...]
    candidates: tuple[Shape, ...]
    lengths: tuple[int, ...]
    vocabulary: Vocabulary | None = None

    def measured(self, shape: Shape) -> Timed | None:
        """Give a shape as it was measured at all lengths; None where it was not."""
        lengths = set(self.lengths)
        return next((timed for timed in self.prices.timed if timed.shape == shape and lengths <= timed.ms.keys()), None)

    def cost(self, shape: Shape) -> Cost:
        """Give a shape's cost: its latency as it was measured, else as predicted."""
        if (timed := self.measured(shape)) is not None:
            latency = sum(timed.ms[length] for length in self.lengths) / len(self.lengths)
        else:
            latency = self.prices.latency_ms(shape, self.lengths)
        return Cost(latency, self._size_mb(shape, self.words(shape)))

    def words(self, shape: Shape) -> Words:
        """Choose how a shape's word embeddings are stored to be within the limit of the size."""
        return choose_words(shape, self.vocabulary, partial(self._size_mb, shape), self.budget.size_mb)

    def _size_mb(self, shape: Shape, words: Words) -> float:
        return self.prices.size_bytes(shape, words.bits, words.config(self.prices.config, self.vocabulary)) / 1e6


def make_plan(config: CompressConfig, material: Material) -> Plan:
    """Choose the candidates by the price list.

    Raises:
        GateError: no shape is within the budget; names the nearest.
    """
    budget = Budget.of(config)
    grid = [*material.references, *shape_grid(material.teacher)]
    least = {shape: _least_mb(shape, material) for shape in grid}
    smallest = min(grid, key=least.__getitem__)
    if budget.size_mb is not None and least[smallest] > budget.size_mb:  # known before anything is measured
        raise GateError(
            f"no student of this teacher is within the budget ({budget}): the smallest, {smallest}, takes "
            f"{least[smallest]:.3g} MB without its graph",
            expected=f"more than --max-size-mb {least[smallest]:.3g}",
            fix="" if material.vocabulary else FEWER_PIECES,
        )
    prices = measured_price_list(material.config, grid, material.lengths, config.threads)
    plan = Plan(budget, prices, tuple(dict.fromkeys(grid)), (), tuple(material.typical), material.vocabulary)
    return replace(plan, candidates=tuple(_choose(plan, material.references)))


def _least_mb(shape: Shape, material: Material) -> float:
    """Count the megabytes of a shape's numbers, its word embeddings stored as small as they may be."""

    def size_mb(words: Words) -> float:
        return number_bytes(words.config(material.config, material.vocabulary), shape, words.bits) / 1e6

    return size_mb(choose_words(shape, material.vocabulary, size_mb, 0.0))


def measure_candidates(plan: Plan, references: Sequence[Shape], threads: int) -> Plan:
    """Time every candidate, and the paper's shapes, and choose again by what was measured.

    Raises:
        GateError: none is within the budget.
    """
    lengths = sorted(set(plan.lengths))
    for _ in range(ROUNDS):
        new = [shape for shape in dict.fromkeys([*plan.candidates, *references]) if not plan.measured(shape)]
        if not new:
            break
        timed = time_shapes(plan.prices.config, new, lengths, threads)
        kept = tuple(old for old in plan.prices.timed if old.shape not in new)
        plan = replace(plan, prices=replace(plan.prices, timed=(*kept, *timed)))
        plan = replace(plan, candidates=tuple(_choose(plan, references)))
    measured = tuple(shape for shape in plan.candidates if plan.measured(shape))
    if not measured:
        nearest = min(filter(plan.measured, plan.grid), key=lambda shape: plan.budget.excess(plan.cost(shape)))
        raise _nothing_fits(plan, nearest)
    return replace(plan, candidates=measured)


def _choose(plan: Plan, references: Sequence[Shape]) -> list[Shape]:
    costs = {shape: plan.cost(shape) for shape in plan.grid}
    within = [shape for shape in plan.grid if plan.budget.holds(costs[shape])]
    if not within:
        nearest = min(plan.grid, key=lambda shape: plan.budget.excess(costs[shape]))
        raise _nothing_fits(plan, nearest)
    papers = [shape for shape in references if shape in within]
    return list(dict.fromkeys([*papers, *largest(within, CANDIDATES)]))[:CANDIDATES]


def _nothing_fits(plan: Plan, shape: Shape) -> GateError:
    cost = plan.cost(shape)
    gives = plan.budget.gives(cost)
    return GateError(
        f"no student of this teacher is within the budget ({plan.budget}): the nearest, {shape}, takes "
        f"{cost.latency_ms:.3g} ms a text, {cost.size_mb:.3g} MB",
        expected=f"at least {gives}", fix=FEWER_PIECES if "size" in gives and not plan.vocabulary else "",
    )  # fmt: skip


def say_plan(config: CompressConfig, material: Material, plan: Plan) -> None:
    """Say what would be tried, what the price list says of it, and how long it takes."""
    errors, steps = plan.prices.errors, rungs(config)
    echo(
        f"price list: {len(plan.prices.timed)} shapes; each predicted by the others: median error "
        f"{percent(errors.median)}, largest {percent(errors.largest)}"
    )
    if (vocabulary := plan.vocabulary) is not None:
        size = material.config["vocab_size"]
        echo(
            f"--trim-vocabulary: the text needs {vocabulary.needed:,} of {size:,} word pieces; where the size demands "
            f"it, {vocabulary.fewest:,} or more stay"
        )
    rows = []
    for shape in plan.candidates:
        cost = plan.cost(shape)
        seconds = [material.training_seconds(shape, epochs) for epochs in (steps[0], steps[-1])]
        figures = f"{cost.latency_ms:.3f}", f"{cost.size_mb:.2f}", str(plan.words(shape))
        rows.append((str(shape), *figures, *map(duration, seconds)))
    columns = ("layers/hidden/FFN/heads", "ms a text", "MB", "word embeddings", "a short training", "a whole one")
    show_table(f"{len(rows)} of {len(plan.grid)} shapes to try, {plan.budget}", columns, rows)
    first = -(-len(plan.candidates) // STARTED)
    trials = sum(
        sum(material.training_seconds(shape, epochs) for shape in plan.candidates) / len(plan.candidates)
        * max(1, first // REDUCTION**rung)
        for rung, epochs in enumerate(steps)
    )  # fmt: skip
    echo(f"about {duration(trials)} of trainings, beside starts and exports; --hours {config.hours:g} bounds it")
