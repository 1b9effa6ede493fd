"""Where the gain over PyTorch fp32 BERT-base comes from: distillation, ONNX, int8, batching by length, each apart.

Each step is measured against the one before it, so that their product is the whole; for speed at a fixed batch size
and length the total is measured directly beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.measurement.statistics import Ratio, product_ratio


@dataclass(frozen=True)
class Step:
    """One step of a chain, or the product of several.

    Attributes:
        name: what was done.
        result: what stands after it, and in what runtime.
        size_bytes: of that; None for a product.
        smaller: than the step before.
        faster: the same of speed.
        score: the task's metric on its dev set, where it was measured.
    """

    name: str
    result: str
    size_bytes: int | None
    smaller: float
    faster: Ratio
    score: float | None


def speedup_breakdown(content: dict[str, Any]) -> list[tuple[str, list[Step]]]:
    """For each bundle and batch size: the steps, their product, and the total that was measured directly."""
    baseline = next(one for one in content["models"] if one["baseline"])
    measured = [one for one in content["models"] if not one["baseline"]]
    sizes = sorted({one["batch_size"] for one in content["comparisons"] if one["kind"] == "total"})
    found = {
        f"{model['name']}, batch {size}": _chain(content["comparisons"], baseline, model, size)
        for model in measured for size in sizes
    }  # fmt: skip
    return [(name, steps) for name, steps in found.items() if steps]


def _chain(
    comparisons: Sequence[dict[str, Any]], baseline: dict[str, Any], model: dict[str, Any], batch_size: int
) -> list[Step]:
    def pick(kind: str, b: str, size: int | None = batch_size) -> dict[str, Any] | None:
        return next(
            (
                one for one in comparisons
                if one["kind"] == kind and one["b"]["model"] == b and (size is None or one["batch_size"] == size)
            ),
            None,
        )  # fmt: skip

    architecture, name, precision = model["architecture"], model["name"], model["precision"]
    # PyTorch's weights are four bytes a parameter
    start, student = 4 * baseline["parameters"], 4 * model["parameters"]
    onnx, given = model["fp32_onnx_bytes"], model["size_bytes"]
    planned = [
        ("distillation", pick("distillation, PyTorch", architecture), start, student),
        ("ONNX", pick("onnx", architecture), student, onnx),
        (precision, pick(precision, name), onnx, given),
        ("batching by length", pick("batching", name, None), given, given),
    ]
    steps = [
        Step(title, one["b"]["label"], after, before / after, _ratio(one), one["b"]["score"])
        for title, one, before, after in planned if one
    ]  # fmt: skip
    if not steps or steps[0].name != "distillation":
        return []
    batching = [step for step in steps if step.name == "batching by length"]
    fixed = steps[: len(steps) - len(batching)]
    found = [*steps, _product("product at a fixed length", fixed)]
    if total := pick("total", name):
        found.append(Step("measured directly", total["b"]["label"], None, start / given, _ratio(total), None))
    return [*found, _product("product with batching", steps)] if batching else found


def _product(name: str, steps: Sequence[Step]) -> Step:
    smaller = 1.0
    for step in steps:
        smaller *= step.smaller
    return Step(name, "", None, smaller, product_ratio([step.faster for step in steps]), steps[-1].score)


def _ratio(one: dict[str, Any]) -> Ratio:
    return Ratio(one["ratio"], one["low"], one["high"], one["pairs"])
