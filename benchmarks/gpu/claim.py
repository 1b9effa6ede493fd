"""The claim on this device: BERT-base against TinyBERT4, the paper's preset, each precision on both sides alike."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.gpu.models import Architectures
from benchmarks.gpu.report import Part
from toolkit.benchmarking.comparisons import PlannedComparison, random_batch
from toolkit.benchmarking.report.claims import speed_claims
from toolkit.benchmarking.results import Kind
from toolkit.benchmarking.runners import Runner, RunnerCache
from toolkit.config.bench import PRECISIONS, PRESETS, SPEED_CLAIM
from toolkit.data.tokenization import Batch
from toolkit.measurement.environment import physical_cores
from toolkit.measurement.timing import measure_pairs

HALF_CLAIM = 12.0  # in bf16 and fp16; the paper's 9.4 is of fp32
MAX_PAIRS, CONTROL_SHARE = 30, 0.3
LEAST_CELL_S = 4.0


def measure(part: Part) -> None:
    """Compare in each precision, eager and through CUDA graphs, until the time is over."""
    base, student = Architectures.of(part.settings).bench_models(part.settings)
    size, length = (4, 16) if part.settings.tiny else (PRESETS["paper"]["batch_sizes"][0], PRESETS["paper"]["length"])
    runners = RunnerCache(physical_cores(), part.settings.device)
    batch = random_batch(size, length, base.vocabulary, seed=0)
    cells = [(precision, graphs) for graphs in (False, True) for precision in PRECISIONS]
    rows: list[dict[str, Any]] = []
    for number, (precision, graphs) in enumerate(cells):
        budget = part.left_s / (len(cells) - number)
        if budget < LEAST_CELL_S and not part.settings.tiny:
            break
        try:
            sides = [
                runners.pytorch(model, precision, copy=copy, graphs=graphs)
                for model, copy in ((base, False), (student, False), (student, True))
            ]
            claimed = SPEED_CLAIM if precision == "fp32" else HALF_CLAIM
            rows.append(compared(sides, batch, claimed, budget, part.settings.device))
        except RuntimeError as error:  # what PyTorch raises, lack of memory too
            rows.append({"precision": precision, "graphs": graphs, "left_out": str(error).strip()})
        part.keep(rows)


def compared(sides: list[Runner], batch: Batch, claim: float, budget_s: float, device: str) -> dict[str, Any]:
    """Time baseline and student in turn, and the student against a second one; judge the claim.

    Args:
        sides: baseline, student, and a copy of the student.
        batch: what all run on.
        claim: how many times faster the student has to be.
        budget_s: seconds for both, warm-ups beside.
        device: "cpu" or "cuda".
    """
    base, student, copy = sides
    size, length = batch["input_ids"].shape
    comparisons = []
    plans = (
        (PlannedComparison(Kind.CONTROL, student, copy), CONTROL_SHARE),
        (PlannedComparison(Kind.DISTILLATION_PYTORCH, base, student, claim), 1 - CONTROL_SHARE),
    )
    for plan, share in plans:
        pairs = measure_pairs(
            plan.a.program(batch), plan.b.program(batch), max_pairs=MAX_PAIRS, claim=plan.claim,
            budget_s=share * budget_s,
        )  # fmt: skip
        comparisons.append(plan.result(pairs, size, length))
    control, distillation = map(asdict, comparisons)
    memory = {runner.name: peak_bytes(runner, batch, device) for runner in (base, student)}
    return {
        "precision": student.precision, "runtime": student.runtime_name, "claim": asdict(speed_claims(comparisons)[0]),
        "comparison": distillation, "control": control, "peak_bytes": memory,
    }  # fmt: skip


def peak_bytes(runner: Runner, batch: Batch, device: str) -> int | None:
    """Measure the GPU memory of a run: the model's weights and what the run takes beside.

    None on a CPU, and for runtimes that took their memory before: graphs and onnxruntime.
    """
    if device != "cuda" or runner.runtime_name != "pytorch":
        return None
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    runner.program(batch)()
    weights = sum(tensor.nbytes for tensor in runner.runtime.model.state_dict().values())
    return int(torch.cuda.max_memory_allocated() - before + weights)
