"""What `bench` times: one model in one runtime, loaded once, on the threads that every other one gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.bench.models import BenchModel
from toolkit.bench.random_models import build
from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import Batch, TextEncoder
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import OnnxRuntime, Runtime, TorchRuntime

RUNTIMES = {"onnxruntime": "ONNX", "pytorch": "PyTorch"}
OFFLINE_BATCH = 32
PRECISIONS = ("fp32", "bf16", "fp16")  # that PyTorch can compute in


def resolve_device(device: str) -> str:
    """ "cpu" or "cuda": "auto" is CUDA where PyTorch has it.

    Raises:
        ToolkitError: CUDA is asked for, and this PyTorch or this machine has none.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        built = f"was built for CUDA {torch.version.cuda} and finds no GPU" if torch.version.cuda else "is a CPU build"
        raise ToolkitError(
            f"--device cuda: PyTorch {torch.__version__} {built}",
            expected="an NVIDIA GPU with its driver (nvidia-smi lists it) and a CUDA build of PyTorch",
            fix="--device cpu, or --device auto to take a GPU where there is one",
        )
    return device


@dataclass(frozen=True)
class Runner:
    """A subject in a runtime, ready to run."""

    subject: BenchModel
    model: str
    runtime: Runtime
    runtime_name: str
    precision: str
    score: float | None

    @property
    def label(self) -> str:
        """Such as "tinybert4, fp32 ONNX"."""
        return f"{self.model}, {self.precision} {RUNTIMES.get(self.runtime_name, self.runtime_name)}"

    def program(self, batch: Batch) -> Callable[[], np.ndarray]:
        """One run over the same batch, to be timed; it ends when the logits are in host memory, on a GPU too."""
        return lambda: self.runtime.run(batch)

    def answer(self, encoder: TextEncoder, text: str, pair: str | None, length: int | None = None) -> np.ndarray:
        """Text to logits, as a request of one text meets it; padded to `length` where one is given."""
        return self._run(encoder.encode([text], None if pair is None else [pair]).batch([0], length))

    def answer_all(
        self, encoder: TextEncoder, texts: Sequence[str], pairs: Sequence[str] | None, length: int | None = None
    ) -> None:
        """Texts to logits, in batches of like length, or in their order and padded to `length` where one is given."""
        encoded = encoder.encode(texts, pairs)
        lengths = encoded.lengths if length is None else np.zeros(len(texts), dtype=np.int64)  # equal: order is kept
        for rows in sorted_batches(lengths, OFFLINE_BATCH):
            self._run(encoded.batch(rows, length))

    def to_dict(self) -> dict[str, str | float | None]:
        """What the reports say of it."""
        about = {"label": self.label, "model": self.model, "runtime": self.runtime_name}
        return {**about, "precision": self.precision, "score": self.score}

    def _run(self, batch: Batch) -> np.ndarray:
        # another model's tokenizer may know more pieces; which row of a random table is read does not matter
        return self.runtime.run(batch | {"input_ids": batch["input_ids"] % self.subject.vocabulary})


class RunnerCache:
    """Loads each contender once and keeps it.

    All onnxruntime sessions stop their spinning threads when a run ends (`session.force_spinning_stop`): within a
    run they spin as in a session alone, and between runs they leave the cores to the other side.

    Args:
        threads: of every contender, in every runtime.
        device: "cpu" or "cuda".
    """

    def __init__(self, threads: int, device: str) -> None:
        import onnxruntime

        self.threads, self.device = threads, device
        needed = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
        self.has_onnx = needed in onnxruntime.get_available_providers()
        self._kept: dict[tuple[str, ...], Runner] = {}

    def headline(self, subject: BenchModel, *, copy: bool = False) -> Runner:
        """The architecture in fp32, in the runtime of the claim: ONNX where it runs on the device, else PyTorch.

        `copy` is a second one of the same, for the A/A control.
        """
        return self.onnx(subject, copy=copy) if self.has_onnx else self.pytorch(subject, copy=copy)

    def onnx(self, subject: BenchModel, *, copy: bool = False) -> Runner:
        """The architecture in fp32 ONNX with random weights; `copy` is a second session over the same file."""
        return self.keep(
            ("onnx", subject.key, str(copy)), subject, subject.architecture, "onnxruntime", "fp32",
            lambda: OnnxRuntime(subject.onnx, threads=self.threads, device=self.device, spinning="running"),
        )  # fmt: skip

    def pytorch(self, subject: BenchModel, precision: str = "fp32", *, copy: bool = False) -> Runner:
        """The architecture in PyTorch with random weights, as transformers builds it; `copy` is a second model."""
        import torch

        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        return self.keep(
            ("pytorch", subject.key, precision, str(copy)), subject, subject.architecture, "pytorch", precision,
            lambda: TorchRuntime(build(subject.config).to(kind), self.device),
        )  # fmt: skip

    def given(self, subject: BenchModel) -> Runner | None:
        """The bundle itself: its own weights in its own runtime; None where that does not run on the device.

        int8 does not run on CUDA: onnxruntime would leave its nodes to the CPU.
        """
        bundle = subject.bundle
        assert bundle is not None
        if bundle.weights.suffix != ".onnx":
            return self.keep(
                ("given", bundle.digest), subject, subject.name, "pytorch", bundle.precision,
                lambda: TorchRuntime.load(bundle.path, self.device),
            )  # fmt: skip
        if not self.has_onnx or (self.device == "cuda" and bundle.precision == "int8"):
            return None
        return self.keep(
            ("given", bundle.digest), subject, subject.name, "onnxruntime", bundle.precision,
            lambda: OnnxRuntime(bundle.weights, threads=self.threads, device=self.device, spinning="running"),
        )  # fmt: skip

    def lineup(self, baseline: BenchModel, subjects: Sequence[BenchModel]) -> list[Runner]:
        """Who is measured alone: the baseline first, each architecture in fp32, each bundle as given."""
        found = [self.headline(baseline), *map(self.headline, subjects)]
        found += [one for one in map(self.given, subjects) if one]
        return list({one.label: one for one in found}.values())

    def keep(
        self, key: tuple[str, ...], subject: BenchModel, model: str, runtime: str, precision: str,
        load: Callable[[], Runtime],
    ) -> Runner:  # fmt: skip
        """The contender of this key, loaded the first time."""
        if key not in self._kept:
            scored = {subject.bundle.precision: subject.score} if subject.bundle else {}
            score = (scored | {"fp32": subject.fp32_score}).get(precision)
            self._kept[key] = Runner(subject, model, load(), runtime, precision, score)
        return self._kept[key]
