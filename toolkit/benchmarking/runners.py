"""Runners that `bench` times: a model in a runtime, loaded once, on as many threads as every other runner gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.benchmarking.cuda_graphs import GraphRuntime
from toolkit.benchmarking.models import BenchModel
from toolkit.benchmarking.random_models import build
from toolkit.benchmarking.results import RUNTIMES, Side
from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import Batch, TextEncoder
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import OnnxRuntime, Runtime, TorchRuntime

OFFLINE_BATCH = 32


def resolve_device(device: str) -> str:
    """Resolve "auto" to "cuda" where PyTorch has it, else to "cpu"; return other values as they are.

    Raises:
        ToolkitError: `device` is "cuda", and this PyTorch or this machine has none.
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


def has_provider(device: str) -> bool:
    """Return whether there is an onnxruntime that runs on a device, "cpu" or "cuda"."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return False
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    return provider in onnxruntime.get_available_providers()


@dataclass(frozen=True)
class Runner:
    """A model in a runtime, ready to run.

    Attributes:
        model: the model.
        name: what the reports call it: of the bundle, or of its architecture.
        runtime, runtime_name, precision: how it runs.
        score: its score in this precision.
    """

    model: BenchModel
    name: str
    runtime: Runtime
    runtime_name: str
    precision: str
    score: float | None

    @property
    def label(self) -> str:
        """Such as "tinybert4, fp32 ONNX"."""
        return f"{self.name}, {self.precision} {RUNTIMES.get(self.runtime_name, self.runtime_name)}"

    def program(self, batch: Batch) -> Callable[[], np.ndarray]:
        """Return a run over this batch, to be timed; it ends when the logits are in host memory, on a GPU too."""
        return lambda: self.runtime.run(batch)

    def answer(self, encoder: TextEncoder, text: str, pair: str | None, length: int | None = None) -> np.ndarray:
        """Turn one text into logits [1, C], tokenization included; pad to `length` tokens if it is given."""
        return self._run(encoder.encode([text], None if pair is None else [pair]).batch([0], length))

    def answer_all(
        self, encoder: TextEncoder, texts: Sequence[str], pairs: Sequence[str] | None, length: int | None = None
    ) -> None:
        """Turn texts into logits, in batches of like length; with `length` in their order, padded to it."""
        encoded = encoder.encode(texts, pairs)
        lengths = encoded.lengths if length is None else np.zeros(len(texts), dtype=np.int64)  # equal: order is kept
        for rows in sorted_batches(lengths, OFFLINE_BATCH):
            self._run(encoded.batch(rows, length))

    def side(self) -> Side:
        """Describe the runner for a comparison."""
        return Side(
            label=self.label, model=self.name, runtime=self.runtime_name, precision=self.precision, score=self.score
        )

    def _run(self, batch: Batch) -> np.ndarray:
        # another model's tokenizer may know more pieces; which row of a random table is read does not matter
        return self.runtime.run(batch | {"input_ids": batch["input_ids"] % self.model.vocabulary})


class RunnerCache:
    """Runners by model, runtime and precision, each loaded once.

    All onnxruntime sessions stop their spinning threads when a run ends (`session.force_spinning_stop`): within a
    run they spin as in a session alone, and between runs they leave the cores to the other side.

    Args:
        threads: of every runner, in every runtime.
        device: "cpu" or "cuda".
    """

    def __init__(self, threads: int, device: str) -> None:
        self.threads, self.device = threads, device
        self.has_onnx = has_provider(device)
        self._runners: dict[tuple[str, ...], Runner] = {}

    def claim_runner(self, model: BenchModel, *, copy: bool = False) -> Runner:
        """Return the architecture in fp32, in the runtime of the claim: ONNX where it runs on the device, else PyTorch.

        `copy` is a second runner of the same, for the A/A control.
        """
        return self.onnx(model, copy=copy) if self.has_onnx else self.pytorch(model, copy=copy)

    def onnx(self, model: BenchModel, *, copy: bool = False) -> Runner:
        """Return the architecture in fp32 ONNX with random weights; `copy` is a second session over the same file."""
        return self._runner(
            ("onnx", model.key, str(copy)), model, model.architecture, "onnxruntime", "fp32",
            lambda: OnnxRuntime(model.onnx, threads=self.threads, device=self.device, spinning="running"),
        )  # fmt: skip

    def pytorch(
        self, model: BenchModel, precision: str = "fp32", *, copy: bool = False, graphs: bool = False
    ) -> Runner:
        """Return the architecture in PyTorch with random weights; `copy` is a second model.

        `graphs` runs it through CUDA graphs: launching kernels one by one takes a small model longer than computing.
        """
        import torch

        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        name, kind = ("CUDA graphs", GraphRuntime) if graphs else ("pytorch", TorchRuntime)
        return self._runner(
            (name, model.key, precision, str(copy)), model, model.architecture, name, precision,
            lambda: kind(build(model.config).to(dtype), self.device),
        )  # fmt: skip

    def bundle_runner(self, model: BenchModel) -> Runner | None:
        """Return the bundle itself, its own weights in its own runtime; None where that does not run on the device.

        int8 does not run on CUDA: onnxruntime would leave its nodes to the CPU.
        """
        bundle = model.bundle
        assert bundle is not None
        if bundle.weights.suffix != ".onnx":
            return self._runner(
                ("bundle", bundle.digest), model, model.name, "pytorch", bundle.precision,
                lambda: TorchRuntime.load(bundle.path, self.device),
            )  # fmt: skip
        if not self.has_onnx or (self.device == "cuda" and bundle.precision == "int8"):
            return None
        return self._runner(
            ("bundle", bundle.digest), model, model.name, "onnxruntime", bundle.precision,
            lambda: OnnxRuntime(bundle.weights, threads=self.threads, device=self.device, spinning="running"),
        )  # fmt: skip

    def all_runners(self, baseline: BenchModel, models: Sequence[BenchModel]) -> list[Runner]:
        """List the runners that are measured alone: the baseline, each architecture in fp32, each bundle as given."""
        runners = [self.claim_runner(baseline), *map(self.claim_runner, models)]
        runners += [runner for runner in map(self.bundle_runner, models) if runner]
        return list({runner.label: runner for runner in runners}.values())

    def _runner(
        self, key: tuple[str, ...], model: BenchModel, name: str, runtime: str, precision: str,
        load: Callable[[], Runtime],
    ) -> Runner:  # fmt: skip
        """Return the runner of this key; load it the first time."""
        if key not in self._runners:
            scores = {model.bundle.precision: model.score} if model.bundle else {}
            score = (scores | {"fp32": model.fp32_score}).get(precision)
            self._runners[key] = Runner(model, name, load(), runtime, precision, score)
        return self._runners[key]
