"""Trials of candidate graphs: each is verified and timed on this CPU, and the fastest that passes wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from export.onnx_export import check_graph
from export.tuning_candidates import Candidate
from export.verify import Gate, Measurement
from toolkit.data.tokenization import EncodedTexts
from toolkit.errors import GateError
from toolkit.inference.runtimes import OnnxRuntime, Runtime
from toolkit.measurement.timing import measure_in_turn

TEXTS = 16  # dev texts of a timed run, as single requests
ROUNDS = 15
Verify = Callable[[Runtime, str], tuple[Measurement, list[Gate]]]  # GraphVerifier.verify


@dataclass
class Trial:
    """A candidate, and its results.

    Attributes:
        path: its file; None when it could not be built or run here.
        problem: why it could not.
        measured, gates: its verification on the dev rows.
        samples_ms: of each round, the time of TEXTS requests with one text each.
    """

    candidate: Candidate
    path: Path | None = None
    problem: str = ""
    measured: Measurement | None = None
    gates: list[Gate] = field(default_factory=list)
    samples_ms: list[float] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Return whether it ran and passed every gate."""
        return self.measured is not None and not self.missed

    @property
    def missed(self) -> list[Gate]:
        """Return the gates that it missed."""
        return [gate for gate in self.gates if not gate.passed]

    @property
    def latency_ms(self) -> float:
        """Return the median time of a request."""
        return float(np.median(self.samples_ms)) / TEXTS if self.samples_ms else float("inf")

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the bundle."""
        measured = self.measured
        return {
            "name": self.candidate.name, "precision": self.candidate.precision, "fault": self.problem,
            "passed": self.passed, "missed": [str(gate) for gate in self.missed],
            "size_bytes": size_bytes(self.path) if self.path else None,
            "latency_ms": self.latency_ms if self.samples_ms else None, "samples_ms": self.samples_ms,
            "drop": measured.drop if measured else None, "agreement": measured.agreement if measured else None,
            "max_batch_difference": measured.max_batch_difference if measured else None,
        }  # fmt: skip


def size_bytes(path: Path) -> int:
    """Return the bytes of a graph with its external data."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def run_trials(candidates: Sequence[Candidate], folder: Path, verify: Verify, encoded: EncodedTexts) -> list[Trial]:
    """Build and verify candidates, then time them in turn, on one thread.

    Args:
        candidates: the graphs to build.
        folder: holds a subfolder for each graph.
        verify: measures a runtime of a precision and returns its gates.
        encoded: dev texts; TEXTS of them, spread over their lengths, are timed.
    """
    trials = [_run_trial(candidate, folder / str(number), verify) for number, candidate in enumerate(candidates)]
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
    """Return the fastest trial that passed.

    Raises:
        GateError: no trial passed; lists the problem or the missed gates of each.
    """
    passed = [trial for trial in trials if trial.passed]
    if not passed:
        missed = [
            f"  - {trial.candidate.name}: {trial.problem or '; '.join(map(str, trial.missed))}" for trial in trials
        ]
        raise GateError(f"no graph of {source} holds its gates; nothing was written\n" + "\n".join(missed))
    return min(passed, key=lambda trial: trial.latency_ms)


def _run_trial(candidate: Candidate, folder: Path, verify: Verify) -> Trial:
    folder.mkdir()
    path = folder / "model.onnx"
    try:
        candidate.build(path)
        check_graph(path)
        runtime = OnnxRuntime(path, threads=1)
        measured, gates = verify(runtime, candidate.precision)
    except Exception as error:  # onnxruntime's versions lack some builders and kernels; other candidates go on
        reason = next(iter(str(error).splitlines()), "")
        return Trial(candidate, problem=f"{type(error).__name__}: {reason}")
    return Trial(candidate, path, measured=measured, gates=gates)
