"""Tables of a GPU's report, from one that is made up."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.table import all_parts, claims, without_samples

CLAIM = {
    "precision": "bf16", "runtime": "CUDA graphs", "peak_bytes": {"BERT-base": 512e6, "tinybert4": 81e6},
    "claim": {"required": 12.0, "measured": 13.04, "low": 12.4, "high": 13.6, "verdict": "PASS"},
    "comparison": {
        "a_median_ms": 6.5, "b_median_ms": 0.5, "batch_size": 128, "length": 128, "a_samples_ms": [6.5],
    },
}  # fmt: skip
RATE = {
    "stage": "a", "length": 64, "batch_size": 256, "precision": "bf16", "rows_per_s": 21_000.4, "step_ms": 12.19,
    "host_ms": 9.0, "tokens_per_s": 1_344_026.0, "device_waits": 0.081, "peak_bytes": 7.3e9, "kernels": [{"ms": 1}],
    "general_distillation_hours": 2.02,
}  # fmt: skip
ENVIRONMENT = {"gpu": {"name": "a GPU"}, "cpu": "a CPU", "versions": {"torch": "2.11", "transformers": "5.17"}}


def point(size: int, ms: float) -> dict[str, Any]:
    return {
        "model": "tinybert4, bf16 PyTorch", "length": 128, "batch_size": size, "median_ms": ms,
        "per_s": 1000 * size / ms, "samples_ms": [ms],
    }  # fmt: skip


def report(**parts: Any) -> dict[str, Any]:
    return {"created": "2020-01-02T03:04:05", "parts": {name: {"result": rows} for name, rows in parts.items()}}


def test_each_part_has_its_figures() -> None:
    content = report(
        checks={"environment": ENVIRONMENT, "tests": [{"outcome": "passed"}, {"outcome": "failure"}], "output": "..."},
        claim=[CLAIM, {"precision": "fp16", "left_out": "no memory"}], training=[RATE, {"left_out": "no memory"}],
        grid=[point(1, 2.0), point(1024, 16.0), point(512, 9.0)],
    )  # fmt: skip
    text = all_parts(without_samples(content))
    assert "| bf16, CUDA graphs | 6.50 | 0.50 | 13.0x [12.4, 13.6] | 12x | PASS | 512, 81 |" in text
    assert "Batch 128, length 128. a GPU, torch 2.11, transformers 5.17, 2020-01-02; 1 of 2 tests for it pass." in text
    assert "| a | 256 x 64 | bf16 | 21,000 | 1,344,026 | 12.2 | 9.0 | 8 % | 7.3 | 2.0 |" in text
    assert "| tinybert4, bf16 PyTorch | 128 | 2.00 | 64,000 | 1,024 |" in text
    assert "no memory" not in text


def test_a_report_that_was_cut_off_is_shown_as_far_as_it_goes() -> None:
    assert all_parts(report()) == claims(report())
    assert "| bf16, CUDA graphs |" in all_parts(report(claim=[CLAIM]))


def test_raw_times_are_not_kept() -> None:
    kept = without_samples(report(claim=[CLAIM], training=[RATE]))
    assert "a_samples_ms" not in kept["parts"]["claim"]["result"][0]["comparison"]
    assert "kernels" not in kept["parts"]["training"]["result"][0]
    assert kept["parts"]["claim"]["result"][0]["claim"] == CLAIM["claim"]
