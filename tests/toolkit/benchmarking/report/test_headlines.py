"""What a report says first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.bench import report
from toolkit.benchmarking.report.headlines import gain, headlines, summary
from toolkit.benchmarking.results import Claim, Kind


def test_headlines_are_of_the_slowest_batch_and_the_smallest_bundle() -> None:
    assert headlines(report()) == [
        ("13.0x faster", "than BERT-base, fp32 ONNX both, batch 1"),
        ("18.3x smaller", "runs/int8, int8, 0.0 MB"),
    ]  # fmt: skip


def test_claims_that_pass_are_counted() -> None:
    claims = [
        Claim(claim="c", model="m", required=1.0, measured=1.0, low=1.0, high=1.0, verdict=verdict)
        for verdict in ("PASS", "FAIL", "INCONCLUSIVE", "PASS")
    ]
    assert summary(replace(report(), claims=claims)) == "2 of 4 claims pass"


@pytest.mark.parametrize(
    ("score", "teacher", "baseline", "rest"),
    [
        (None, None, None, ""),
        (0.8, 0.9, None, ", and keeps 88.9 % of its teacher's accuracy"),
        (0.8, 0.9, 0.825, ", with 2.5 points of accuracy less"),
        (0.8, None, 0.79, ", with 1.0 points of accuracy more"),
    ],
)
def test_the_first_sentence_is_the_gain(
    score: float | None, teacher: float | None, baseline: float | None, rest: str
) -> None:
    whole = report()
    base, bundle = whole.models
    bundle = replace(bundle, metric="accuracy", score=score, teacher_score=teacher, size_bytes=22)
    base = replace(base, metric="accuracy", score=baseline, fp32_onnx_bytes=385)
    totals = [replace(entry, ratio=22.0) for entry in whole.comparisons if entry.kind == Kind.TOTAL]
    assert gain(replace(whole, models=[base, bundle], comparisons=totals)) == (
        f"runs/int8 is 22.0x faster and 17.5x smaller than BERT-base{rest}"
    )
    slower = replace(whole, models=[replace(base, fp32_onnx_bytes=11), bundle])
    slower = replace(slower, comparisons=[replace(totals[0], ratio=0.5)])
    assert gain(slower).startswith("runs/int8 is 2.0x slower and 2.0x larger than BERT-base")
