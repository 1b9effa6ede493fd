"""Claims held against what was measured: a ratio that is promised, what was found, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.stats import Ratio

CONTROL_TOLERANCE = 0.05  # two sessions of one model that differ by more say that the machine cannot be trusted


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

    Where the A/A control of the same model and batch size lies wholly outside 1 +- CONTROL_TOLERANCE, the machine was
    too disturbed for a verdict: INCONCLUSIVE.
    """
    disturbed = {
        (one["a"]["model"], one["batch_size"])
        for one in comparisons
        if one["kind"] == "control" and (one["low"] > 1 + CONTROL_TOLERANCE or one["high"] < 1 - CONTROL_TOLERANCE)
    }
    found = []
    for one in comparisons:
        if one["claim"] is None:
            continue
        name = f"speed, fp32 ONNX on both sides, batch {one['batch_size']}, length {one['length']}"
        model = one["b"]["model"]
        held = claim(name, model, one["claim"], Ratio(one["ratio"], one["low"], one["high"], one["pairs"]))
        if (model, one["batch_size"]) in disturbed:
            held |= {"verdict": "INCONCLUSIVE", "reason": "the A/A control differs from 1: the machine was disturbed"}
        found.append(held)
    return found


def missed_claims(claims: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each claim that is missed or not shown."""
    return [
        f"  - {one['claim']} of {one['model']}: {one['verdict']}, {one['measured']:.2f}x of {one['required']:g}x"
        + (f" ({one['reason']})" if one["reason"] else "")
        for one in claims
        if one["verdict"] != "PASS"
    ]
