"""Several graphs of one classifier, judged by the gates, timed on this CPU; the fastest that passes is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.onnx_export import check_graph
from export.tuning_candidates import Candidate
from export.verify import Gate, Measurement
from toolkit.data.tokenization import EncodedTexts
from toolkit.errors import GateError
from toolkit.inference.runtimes import OnnxRuntime, Runtime
from toolkit.measurement.timing import measure_in_turn

TEXTS = 16  # dev texts of one timed run, one request each
ROUNDS = 15
Judge = Callable[[Runtime, str], tuple[Measurement, list[Gate]]]


@dataclass
class Trial:
    """A candidate and what became of it.

    Attributes:
        path: its file; None when it could not be built or run here, for the reason in `fault`.
        measured, gates: what it gave on the dev rows.
        samples_ms: time of TEXTS requests of one text each, one for each round.
    """

    candidate: Candidate
    path: Path | None = None
    fault: str = ""
    measured: Measurement | None = None
    gates: list[Gate] = field(default_factory=list)
    samples_ms: list[float] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether it ran and held every gate."""
        return self.measured is not None and all(gate.passed for gate in self.gates)

    @property
    def latency_ms(self) -> float:
        """Median time of one request."""
        return float(np.median(self.samples_ms)) / TEXTS if self.samples_ms else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the bundle."""
        measured = self.measured
        return {
            "name": self.candidate.name, "precision": self.candidate.precision, "fault": self.fault,
            "passed": self.passed, "missed": [str(gate) for gate in self.gates if not gate.passed],
            "size_bytes": size_bytes(self.path) if self.path else None,
            "latency_ms": self.latency_ms if self.samples_ms else None, "samples_ms": self.samples_ms,
            "drop": measured.drop if measured else None, "agreement": measured.agreement if measured else None,
            "max_batch_difference": measured.max_batch_difference if measured else None,
        }  # fmt: skip


def size_bytes(path: Path) -> int:
    """Bytes of a graph with its external data."""
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))


def try_all(found: Sequence[Candidate], folder: Path, judge: Judge, encoded: EncodedTexts) -> list[Trial]:
    """Build, judge and time candidates, one thread each, in turn.

    Args:
        found: candidates.
        folder: to build in, one subfolder each.
        judge: a runtime and its precision to figures and gates.
        encoded: dev texts; TEXTS of them, spread over their lengths, are timed.
    """
    trials = [_try(candidate, folder / str(number), judge) for number, candidate in enumerate(found)]
    runtimes = {
        trial.candidate.name: OnnxRuntime(trial.path, threads=1, spinning="running")
        for trial in trials if trial.path is not None
    }  # fmt: skip
    order = np.argsort(encoded.lengths, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(TEXTS, len(order)), dtype=np.int64)]
    batches = [encoded.batch([int(row)]) for row in np.resize(rows, TEXTS)]

    def program(runtime: OnnxRuntime) -> Callable[[], object]:
        return lambda: [runtime.run(batch) for batch in batches]

    times = measure_in_turn({name: program(runtime) for name, runtime in runtimes.items()}, ROUNDS)
    for trial in trials:
        trial.samples_ms = times.get(trial.candidate.name, [])
    return trials


def fastest(trials: Sequence[Trial], source: str) -> Trial:
    """The fastest trial that passed.

    Raises:
        GateError: none did; lists what each missed.
    """
    passed = [trial for trial in trials if trial.passed]
    if not passed:
        missed = [
            f"  - {trial.candidate.name}: {trial.fault or '; '.join(str(g) for g in trial.gates if not g.passed)}"
            for trial in trials
        ]
        raise GateError(f"no graph of {source} holds its gates; nothing was written\n" + "\n".join(missed))
    return min(passed, key=lambda trial: trial.latency_ms)


def _try(candidate: Candidate, folder: Path, judge: Judge) -> Trial:
    folder.mkdir()
    path = folder / "model.onnx"
    try:
        candidate.build(path)
        check_graph(path)
        runtime = OnnxRuntime(path, threads=1)
        measured, gates = judge(runtime, candidate.precision)
    except Exception as error:  # builders and kernels are onnxruntime's, and versions lack some: no reason to stop
        reason = next(iter(str(error).splitlines()), "")
        return Trial(candidate, fault=f"{type(error).__name__}: {reason}")
    return Trial(candidate, path, measured=measured, gates=gates)
