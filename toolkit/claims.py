"""Claims held against what was measured: a ratio that is promised, what was found, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.stats import Ratio


def claim(name: str, model: str, required: float, ratio: Ratio) -> dict[str, Any]:
    """One claim as `report.json` has it: PASS, FAIL or INCONCLUSIVE."""
    return {
        "claim": name,
        "model": model,
        "required": required,
        "measured": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "verdict": ratio.verdict(required),
        "reason": "",
    }


def size_claims(models: Sequence[dict[str, Any]], required: float) -> list[dict[str, Any]]:
    """How many times smaller each architecture is in fp32, and each bundle as given. Exact: there is no interval."""
    baseline = next(one for one in models if one["baseline"])["fp32_onnx_bytes"]
    measured = [one for one in models if not one["baseline"]]
    sizes = {("size, fp32 ONNX on both sides", one["architecture"]): one["fp32_onnx_bytes"] for one in measured}
    sizes |= {("size, bundle as given", one["name"]): one["size_bytes"] for one in measured}
    ratios = {key: baseline / size for key, size in sizes.items()}
    return [claim(name, model, required, Ratio(x, x, x, 1)) for (name, model), x in ratios.items()]


def speed_claims(comparisons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times faster: one claim for each comparison that was made for one.

    Where the A/A control of the same model and batch size excludes 1, two equal programs differed: the machine was
    disturbed by as much as the control's interval reaches. The verdict is then given on the interval widened by that
    factor, so that a claim passes only if no such disturbance could have made it pass.
    """
    found = []
    for one in comparisons:
        if one["claim"] is None:
            continue
        factor = _disturbance(comparisons, one["b"]["model"], one["batch_size"])
        name = f"speed, fp32 ONNX on both sides, batch {one['batch_size']}, length {one['length']}"
        ratio = Ratio(one["ratio"], one["low"] / factor, one["high"] * factor, one["pairs"])
        reason = "" if factor == 1 else f"interval widened by {factor:.2f}x, as far as the A/A control is from 1"
        found.append(claim(name, one["b"]["model"], one["claim"], ratio) | {"reason": reason})
    return found


def _disturbance(comparisons: Sequence[dict[str, Any]], model: str, batch_size: int) -> float:
    """How far apart two sessions of one model may have been timed: 1 where the control's interval holds 1."""
    factors = [
        max(one["high"], 1 / one["low"])
        for one in comparisons
        if one["kind"] == "control" and (one["a"]["model"], one["batch_size"]) == (model, batch_size)
        and not one["low"] <= 1 <= one["high"]
    ]  # fmt: skip
    return max(factors, default=1.0)


def missed_claims(claims: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each claim that is missed or not shown."""
    return [
        f"  - {one['claim']} of {one['model']}: {one['verdict']}, {one['measured']:.2f}x of {one['required']:g}x"
        + (f" ({one['reason']})" if one["reason"] else "")
        for one in claims
        if one["verdict"] != "PASS"
    ]
