"""The bundles of a search: every trained student is exported, held to the gates of that, and timed; none twice."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from export.pipeline import run_export
from toolkit.bundle.format import Bundle, is_bundle, open_bundle
from toolkit.bundle.provenance import run_or_reuse
from toolkit.compression.budget import Cost
from toolkit.compression.plan import Plan
from toolkit.compression.search import Search, dev_score
from toolkit.compression.timing import relative_latency
from toolkit.compression.trainings import Epochs, describe
from toolkit.compression.words import Words
from toolkit.config import CompressConfig, DistillConfig, ExportConfig
from toolkit.console import echo
from toolkit.errors import GateError
from toolkit.inference.runtimes import OnnxRuntime
from toolkit.models.student import Shape

ROUNDED = (0, 1)  # epochs of a training in the arithmetic of int8
LOST = 0.5  # points that rounding may cost a whole training before it is finished under its rounding


@dataclass(frozen=True)
class Finished:
    """A student that was trained and exported.

    Attributes:
        shape: of the student.
        epochs: of its training.
        bundle: its int8 graph.
        dev: the metric of that on dev, in percent.
        cost: latency as measured, size, and points lost on dev.
        trainings: options of what trained it, in their order.
    """

    shape: Shape
    epochs: Epochs
    bundle: Bundle
    dev: float
    cost: Cost
    trainings: tuple[DistillConfig, ...]


class Bundles:
    """Every student of a search that was exported.

    Args:
        search: trains the students, and remembers what was made.
        plan: the budget, and how each shape's embeddings are stored.
    """

    def __init__(self, search: Search, plan: Plan) -> None:
        self.search, self.plan = search, plan
        self.finished: dict[tuple[Shape, Epochs], Finished] = {}
        for name, *epochs in search.recall("bundles", []):
            self.add(Shape.parse(name), (epochs[0], epochs[1]))

    @property
    def missed(self) -> list[str]:
        """The students that cannot be exported, each with the reason."""
        return list(self.search.recall("not exported", {}).values())

    @property
    def within(self) -> list[Finished]:
        """Those within the budget: the best on dev first, of equal ones what trained longest, then the fastest."""
        held = [student for student in self.finished.values() if self.plan.budget.holds(student.cost)]
        return sorted(held, key=lambda student: (-student.dev, -sum(student.epochs), student.cost.latency_ms))

    def of(self, shape: Shape) -> list[Finished]:
        """List the bundles of a shape."""
        return [student for (key, _), student in self.finished.items() if key == shape]

    def add(self, shape: Shape, epochs: Epochs) -> None:
        """Train a student, or find it trained, and export it; what keeps it from being exported is written down."""
        if (shape, epochs) in self.finished:
            return
        options, made = self.search.training_of(shape, epochs), self.search.recall("bundles", [])
        if not is_bundle(Path(options.out)):
            self.search.train(shape, epochs)
        if (entry := [str(shape), *epochs]) not in made:
            self.search.remember("bundles", [*made, entry])
        self._keep(self._exported(shape, epochs, options))
        if is_bundle(Path((rounded := under_rounding(options)).out)):  # an earlier command trained it on
            self._keep(self._exported(shape, epochs, options, rounded))

    def finish(self, shape: Shape, epochs: Epochs) -> None:
        """Add a student; where rounding costs it much, train it on in the arithmetic of int8; the better one stays."""
        self.add(shape, epochs)
        student, options = self.finished.get((shape, epochs)), self.search.training_of(shape, epochs)
        rounded, dev = under_rounding(options), -math.inf if student is None else student.dev
        lost = dev_score(open_bundle(options.out).manifest) - dev
        if lost <= LOST or is_bundle(Path(rounded.out)) or not self.search.has_time(shape, ROUNDED):
            return
        echo(f"rounding costs {shape} much: it trains on in the arithmetic of int8")
        self.search.train_on(f"{shape}, under int8 rounding", rounded, shape, ROUNDED)
        self._keep(self._exported(shape, epochs, options, rounded))

    def _keep(self, student: Finished | None) -> None:
        """Keep a student that could be exported, unless one of as long a training is as good."""
        if student is None:
            return
        rival = self.finished.get((student.shape, student.epochs))
        if rival is None or student.dev > rival.dev:
            self.finished[student.shape, student.epochs] = student

    def _exported(self, shape: Shape, epochs: Epochs, *trainings: DistillConfig) -> Finished | None:
        search, student = self.search, open_bundle(trainings[-1].out)
        failures, name = search.recall("not exported", {}), f"{shape}, {describe(epochs)}"
        if trainings[-1].out in failures:
            return None
        try:
            options = export_of(search.config, trainings[-1].out, self.plan.words(shape))
            bundle = run_or_reuse(f"{name}, int8", options, run_export, student)
        except GateError as error:
            problem = f"{name}: {error.problem}"
            search.remember("not exported", {**failures, trainings[-1].out: problem})
            echo(problem)
            return None
        dev = dev_score(bundle.manifest)
        drop = round(search.teacher_score - dev, 6)
        cost = Cost(self._latency_ms(shape, bundle, len(trainings)), bundle.weight_bytes / 1e6, drop)
        echo(f"{name}, int8: {cost.latency_ms:.3f} ms a text, {cost.size_mb:.2f} MB, {drop:.2f} points lost on dev")
        return Finished(shape, epochs, bundle, dev, cost, trainings)

    def _latency_ms(self, shape: Shape, bundle: Bundle, trainings: int) -> float:
        """Time a bundle once against its shape's price: others of the same graph take as long."""
        ratios, threads = self.search.recall("ratios", {}), self.search.config.threads
        graph = f"{shape}, {trainings}"  # a second training is under rounding, whose scales are other nodes
        if graph not in ratios:
            runtime = OnnxRuntime(bundle.weights, threads=threads, spinning="running")
            ratio = relative_latency(runtime, shape, self.plan.prices.config, self.plan.lengths, threads)
            ratios = {**ratios, graph: ratio}
            self.search.remember("ratios", ratios)
        return float(ratios[graph]) * self.plan.cost(shape).latency_ms


def under_rounding(options: DistillConfig) -> DistillConfig:
    """Give the options that train a student on in the arithmetic of int8, after its training by `options`."""
    intermediate, prediction = ROUNDED
    return replace(
        options, init=options.out, out=f"{options.out}-rounded", intermediate_epochs=intermediate,
        prediction_epochs=prediction, quantization_aware=True,
    )  # fmt: skip


def export_of(config: CompressConfig, student: str, words: Words) -> ExportConfig:
    """Give the options of `toolkit export` that export a student in the folder of the search, beside it."""
    # the budget bounds what the student and its rounding lose together; where it allows more, rounding may take it
    max_drop = max(config.max_drop or 0.0, ExportConfig.max_drop)
    text = () if words.pieces is None else config.trim_vocabulary
    own = {"out": f"{student}-int8", "max_drop": max_drop, "trim_vocabulary": text}
    most = words.pieces if words.bounded else None
    return ExportConfig(student, embedding_bits=words.bits, max_pieces=most, **config.shared_with(ExportConfig) | own)
