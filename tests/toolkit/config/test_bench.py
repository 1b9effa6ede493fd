"""Options of `toolkit bench`: each problem in words, and defaults that the preset and the device decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.bench import CONFIG
from tests.support.problems import only_problem
from toolkit.config import BenchConfig

BENCH = BenchConfig(bundles=("student",))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bundles": ()}, "no bundle given"),
        ({"device": "tpu"}, "--device tpu: expected one of cpu, cuda"),
        ({"batch_sizes": (1, 0)}, "--batch-size 0: expected 1 or more"),
        ({"length": 1}, "--length 1: expected 2 or more"),
        ({"speed_claim": 0.0}, "--speed-claim 0.0: expected more than 0"),
        ({"preset": "tiny"}, "--preset tiny: expected one of paper"),
        ({"preset": "paper", "batch_sizes": (4,)}, "--preset paper with --batch-sizes: expected one of them"),
        ({"precisions": ("fp32", "int8")}, "--precisions int8: expected one of fp32, bf16, fp16"),
        ({"scenarios": "single, stress"}, "--scenarios stress: expected one of single, offline, server"),
        ({"replicates": 2}, "--replicates 2: expected 0, or 3 or more"),
        ({"compare": True}, "--compare with 1 arguments: expected two report.json"),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(replace(BENCH, **options))


def test_scenarios_are_a_list_without_blanks() -> None:
    assert replace(BENCH, scenarios=" single ,,server").chosen_scenarios == ("single", "server")
    assert replace(BENCH, scenarios="").chosen_scenarios == ()


def test_the_device_decides_precisions_and_grid() -> None:
    cpu, cuda = BENCH.on("cpu"), BENCH.on("cuda")
    assert (cpu.precisions, cpu.grid[-1], cpu.batch_sizes) == (("fp32",), 32, (1, 8))
    assert (cuda.precisions, cuda.grid[-1]) == (("fp32", "bf16", "fp16"), 256)
    chosen = replace(BENCH, precisions=("fp16",), grid=(3,)).on("cuda")
    assert (chosen.precisions, chosen.grid) == (("fp16",), (3,))


def test_the_paper_s_preset_fixes_batch_and_length() -> None:
    config = replace(BENCH, preset="paper").on("cpu")
    assert (config.batch_sizes, config.length) == ((128,), 128)


def test_what_depends_on_the_device() -> None:
    paper = BenchConfig(bundles=("a",), preset="paper")
    on_gpu, on_cpu = paper.on("cuda"), CONFIG.on("cpu")
    assert (on_gpu.batch_sizes, on_gpu.length) == ((128,), 128)
    assert on_gpu.precisions == ("fp32", "bf16", "fp16")
    assert (min(on_gpu.grid), max(on_gpu.grid)) == (1, 256)
    assert (on_cpu.batch_sizes, on_cpu.length, on_cpu.precisions, on_cpu.grid) == ((1,), 16, ("fp32",), (4, 1))


def test_the_paper_s_claims_are_those_over_bert_base_alone() -> None:
    assert (BENCH.on("cpu").size_claim, BENCH.on("cpu").speed_claim) == (7.5, 9.4)
    own = replace(BENCH, baseline="runs/teacher")
    assert (own.on("cpu").size_claim, own.on("cpu").speed_claim) == (None, None)
    assert replace(own, speed_claim=2.0).on("cpu").speed_claim == replace(BENCH, speed_claim=2.0).on("cpu").speed_claim
