"""Claims held against what was measured: a ratio that is promised, what was found, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.measurement.statistics import Ratio


def claim(name: str, model: str, required: float, ratio: Ratio) -> dict[str, Any]:
    """One claim as `report.json` has it: PASS, FAIL or INCONCLUSIVE, and then how many measurements would decide."""
    return {
        "claim": name,
        "model": model,
        "required": required,
        "measured": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "verdict": ratio.verdict(required),
        "needed": None,
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
    Where the comparison was repeated in fresh processes, the interval is the one between processes.
    """
    found = []
    for one in comparisons:
        if one["claim"] is None:
            continue
        factor = control_widening(comparisons, one["b"]["model"], one["batch_size"])
        runtime = {"onnxruntime": "ONNX", "pytorch": "PyTorch"}[one["b"]["runtime"]]
        name = f"speed, fp32 {runtime} on both sides, batch {one['batch_size']}, length {one['length']}"
        ratio, unit = measured_ratio(one)
        widened = Ratio(ratio.value, ratio.low / factor, ratio.high * factor, ratio.pairs)
        entry = claim(name, one["b"]["model"], one["claim"], widened)
        reasons = [f"{ratio.pairs} {unit}"] if "replicated" in one else []
        if factor != 1:
            reasons.append(f"interval widened by {factor:.2f}x, as far as the A/A control is from 1")
        if entry["verdict"] == "INCONCLUSIVE":
            entry["needed"] = required_samples(ratio, one["claim"], factor)
            number = f"about {entry['needed']:,}" if entry["needed"] else "no number of"
            reasons.append(f"{number} {unit} would decide")
        found.append(entry | {"reason": "; ".join(reasons)})
    return found


def measured_ratio(comparison: dict[str, Any]) -> tuple[Ratio, str]:
    """What a comparison came to, and what it was counted in: of its fresh processes where there were any."""
    if again := comparison.get("replicated"):
        return Ratio(again["ratio"], again["low"], again["high"], again["processes"]), "processes"
    return Ratio(comparison["ratio"], comparison["low"], comparison["high"], comparison["pairs"]), "pairs"


def control_widening(comparisons: Sequence[dict[str, Any]], model: str, batch_size: int) -> float:
    """How far apart two sessions of one model may have been timed: 1 where the control's interval holds 1."""
    factors = [
        max(one["high"], 1 / one["low"])
        for one in comparisons
        if one["kind"] == "control" and (one["a"]["model"], one["batch_size"]) == (model, batch_size)
        and not one["low"] <= 1 <= one["high"]
    ]  # fmt: skip
    return max(factors, default=1.0)


def required_samples(ratio: Ratio, required: float, factor: float) -> int | None:
    """Measurements that would decide; None where the disturbance alone straddles the claim."""
    above = ratio.value >= required
    bound = required * factor if above else required / factor
    decidable = ratio.value > bound if above else ratio.value < bound
    return ratio.required_samples(bound) if decidable else None


def missed_claims(claims: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each claim that is missed or not shown."""
    return [
        f"  - {one['claim']} of {one['model']}: {one['verdict']}, {one['measured']:.2f}x of {one['required']:g}x"
        + (f" ({one['reason']})" if one["reason"] else "")
        for one in claims
        if one["verdict"] != "PASS"
    ]
