"""Claims: ratios that are promised, held against the ratios that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from toolkit.benchmarking.results import RUNTIMES, Claim, Comparison, Kind, ModelFacts
from toolkit.measurement.statistics import Ratio


def judge_claim(name: str, model: str, required: float, ratio: Ratio) -> Claim:
    """Give the verdict on a claim: PASS, FAIL or INCONCLUSIVE."""
    return Claim(
        claim=name, model=model, required=required, measured=ratio.value, low=ratio.low, high=ratio.high,
        verdict=ratio.verdict(required),
    )  # fmt: skip


def size_claims(models: Sequence[ModelFacts], required: float) -> list[Claim]:
    """Judge how many times smaller each architecture in fp32 and each bundle as given is. Sizes have no interval."""
    baseline = next(model for model in models if model.baseline).fp32_onnx_bytes
    measured = [model for model in models if not model.baseline]
    sizes = {("size, fp32 ONNX on both sides", model.architecture): model.fp32_onnx_bytes for model in measured}
    sizes |= {("size, bundle as given", model.name): model.size_bytes for model in measured}
    ratios = {key: baseline / size for key, size in sizes.items()}
    return [judge_claim(name, model, required, Ratio(x, x, x, 1)) for (name, model), x in ratios.items()]


def gain_claims(models: Sequence[ModelFacts], comparisons: Sequence[Comparison]) -> list[Claim]:
    """Judge that each bundle as given is smaller than a baseline that a person has, and faster than it in PyTorch."""
    baseline = next(model for model in models if model.baseline)
    claims = []
    for model in models:
        if model.baseline:
            continue
        ratio = baseline.fp32_onnx_bytes / model.size_bytes
        size = Ratio(ratio, ratio, ratio, 1)
        claims.append(judge_claim("smaller than the baseline, bundle as given", model.name, 1.0, size))
        for total in comparisons:
            if total.kind == Kind.TOTAL and total.b.model == model.name:
                name = f"faster than the baseline in PyTorch, batch {total.batch_size}, length {total.length}"
                factor = control_widening(comparisons, model.architecture, total.batch_size)
                claims.append(_judge_timed(name, total, 1.0, factor))
    return claims


def speed_claims(comparisons: Sequence[Comparison]) -> list[Claim]:
    """Judge each comparison that a claim was made for.

    If the A/A control of the same model and batch size excludes 1, two equal programs differed: the machine was
    disturbed by as much as the control's interval reaches. The interval of the claim is widened by that factor before
    the verdict, so that a claim passes only if no such disturbance could have made it pass.
    If the comparison was repeated in fresh processes, the interval between processes counts.
    """
    return [_speed_claim(entry, entry.claim, comparisons) for entry in comparisons if entry.claim is not None]


def _speed_claim(comparison: Comparison, required: float, comparisons: Sequence[Comparison]) -> Claim:
    factor = control_widening(comparisons, comparison.b.model, comparison.batch_size)
    sides = f"{comparison.b.precision} {RUNTIMES.get(comparison.b.runtime, comparison.b.runtime)} on both sides"
    name = f"speed, {sides}, batch {comparison.batch_size}, length {comparison.length}"
    return _judge_timed(name, comparison, required, factor)


def _judge_timed(name: str, comparison: Comparison, required: float, factor: float) -> Claim:
    """Judge a ratio that was timed, its interval widened by a factor."""
    ratio, unit = comparison.measured()
    widened = Ratio(ratio.value, ratio.low / factor, ratio.high * factor, ratio.pairs)
    claim, needed = judge_claim(name, comparison.b.model, required, widened), None
    reasons = [f"{ratio.pairs} {unit}"] if comparison.replicated else []
    if factor != 1:
        reasons.append(f"interval widened by {factor:.2f}x, as far as the A/A control is from 1")
    if claim.verdict == "INCONCLUSIVE":
        needed = required_samples(ratio, required, factor)
        reasons.append(f"{f'about {needed:,}' if needed else 'no number of'} {unit} would decide")
    return replace(claim, needed=needed, reason="; ".join(reasons))


def control_widening(comparisons: Sequence[Comparison], model: str, batch_size: int) -> float:
    """Return how far apart two sessions of one model may have been timed: 1 where the control's interval holds 1."""
    factors = [
        max(control.high, 1 / control.low)
        for control in comparisons
        if control.kind == Kind.CONTROL and (control.a.model, control.batch_size) == (model, batch_size)
        and not control.low <= 1 <= control.high
    ]  # fmt: skip
    return max(factors, default=1.0)


def required_samples(ratio: Ratio, required: float, factor: float) -> int | None:
    """Return how many measurements would decide; None where the disturbance alone straddles the claim."""
    above = ratio.value >= required
    bound = required * factor if above else required / factor
    decidable = ratio.value > bound if above else ratio.value < bound
    return ratio.required_samples(bound) if decidable else None


def missed_claims(claims: Sequence[Claim]) -> list[str]:
    """Write a line for each claim whose verdict is not PASS."""
    return [
        f"  - {claim.claim} of {claim.model}: {claim.verdict}, {claim.measured:.2f}x of {claim.required:g}x"
        + (f" ({claim.reason})" if claim.reason else "")
        for claim in claims
        if claim.verdict != "PASS"
    ]
