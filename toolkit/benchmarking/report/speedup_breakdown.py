"""The gain over BERT-base in fp32 PyTorch by step: distillation, ONNX, int8, batching by length, each apart.

Each step is measured against the one before it, so that their product is the whole; for speed at a fixed batch size
and length the total is measured directly beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.benchmarking.results import Comparison, Kind, ModelFacts, Report
from toolkit.measurement.statistics import Ratio, product_ratio


@dataclass(frozen=True)
class Step:
    """A step of a breakdown, or the product of several.

    Attributes:
        name: of the step.
        result: the model and runtime after it.
        size_bytes: of the model after it; None for a product.
        smaller: times smaller than the step before.
        faster: times faster than the step before.
        score: the task's metric, where it was measured.
    """

    name: str
    result: str
    size_bytes: int | None
    smaller: float
    faster: Ratio
    score: float | None


def speedup_breakdown(report: Report) -> list[tuple[str, list[Step]]]:
    """List for each bundle and batch size the steps, their product, and the total that was measured directly."""
    sizes = sorted({comparison.batch_size for comparison in report.comparisons if comparison.kind == Kind.TOTAL})
    breakdowns = {
        f"{model.name}, batch {size}": _steps(report.comparisons, report.baseline, model, size)
        for model in report.measured_models for size in sizes
    }  # fmt: skip
    return [(name, steps) for name, steps in breakdowns.items() if steps]


def _steps(comparisons: Sequence[Comparison], baseline: ModelFacts, model: ModelFacts, batch_size: int) -> list[Step]:
    def pick(kind: str, b: str, size: int | None = batch_size) -> Comparison | None:
        matching = (
            comparison for comparison in comparisons
            if comparison.kind == kind and comparison.b.model == b and size in (None, comparison.batch_size)
        )  # fmt: skip
        return next(matching, None)

    # PyTorch's weights are four bytes a parameter
    start, student = 4 * baseline.parameters, 4 * model.parameters
    onnx, bundle = model.fp32_onnx_bytes, model.size_bytes
    planned = [
        ("distillation", pick(Kind.DISTILLATION_PYTORCH, model.architecture), start, student),
        ("ONNX", pick(Kind.ONNX, model.architecture), student, onnx),
        (model.precision, pick(model.precision, model.name), onnx, bundle),
        ("batching by length", pick(Kind.BATCHING, model.name, None), bundle, bundle),
    ]
    steps = [
        Step(name, comparison.b.label, after, before / after, comparison.paired(), comparison.b.score)
        for name, comparison, before, after in planned if comparison
    ]  # fmt: skip
    if not steps or steps[0].name != "distillation":
        return []
    fixed = [step for step in steps if step.name != "batching by length"]
    products = [_product("product at a fixed length", fixed)]
    if total := pick(Kind.TOTAL, model.name):
        products.append(Step("measured directly", total.b.label, None, start / bundle, total.paired(), None))
    if len(fixed) < len(steps):
        products.append(_product("product with batching", steps))
    return [*steps, *products]


def _product(name: str, steps: Sequence[Step]) -> Step:
    smaller = math.prod(step.smaller for step in steps)
    return Step(name, "", None, smaller, product_ratio([step.faster for step in steps]), steps[-1].score)
