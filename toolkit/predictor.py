"""Scores from a bundle, by onnxruntime for `model.onnx` and by PyTorch for `model.safetensors`.

The ONNX side is what the server runs: it loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from toolkit.bundle import Bundle, open_bundle
from toolkit.data import load_split
from toolkit.errors import ToolkitError, require
from toolkit.metrics import evaluate, scores
from toolkit.tasks import get_task
from toolkit.text import Batch, Encoded, TextEncoder, sorted_batches

COMPANY = range(33, 41)  # tokens of the inputs that are run alone and together
MAX_COMPANY_DIFFERENCE = 1e-3  # a wrong kernel's is a hundred times that, a right one's 0


class Runtime(Protocol):
    """Padded token ids in, logits out."""

    def run(self, batch: Batch) -> np.ndarray:
        """[B, L] int64 arrays by name to logits [B, C] float32."""
        ...


class OnnxRuntime:
    """An onnxruntime session over one model file.

    Args:
        path: model.onnx.
        threads: intra-op threads; 0 leaves the choice to onnxruntime (all cores).
        device: "cpu" or "cuda".
        spinning: let idle pool threads spin; faster for one session alone, harmful for several side by side.
            "running": only until a run ends, so that sessions that take turns leave each other alone.
        memory_pattern: keep a plan of memory for each shape of batch; without, memory does not grow with their number.

    Raises:
        ToolkitError: onnxruntime is missing, cannot load the file, or lacks the device.
    """

    def __init__(
        self, path: Path, *, threads: int = 0, device: str = "cpu", spinning: bool | Literal["running"] = True,
        memory_pattern: bool = True,
    ) -> None:  # fmt: skip
        require("onnxruntime", purpose=f"running {path}")
        import onnxruntime

        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
        if provider not in onnxruntime.get_available_providers():
            raise ToolkitError(
                f"onnxruntime here has no {provider}: {', '.join(onnxruntime.get_available_providers())}",
                fix="--device cpu, or pip install onnxruntime-gpu in place of onnxruntime",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_mem_pattern = memory_pattern
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        elif spinning == "running":
            options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise ToolkitError(f"onnxruntime cannot load {path}: {error}", fix="export the bundle again") from error
        if provider not in self.session.get_providers():  # onnxruntime falls back to the CPU without an error
            raise ToolkitError(f"onnxruntime could not start {provider} on this machine", fix="--device cpu")
        self.inputs = {one.name for one in self.session.get_inputs()}

    def run(self, batch: Batch) -> np.ndarray:
        """[B, L] int64 arrays by name to logits [B, C] float32."""
        feed = {name: array for name, array in batch.items() if name in self.inputs}
        return np.asarray(self.session.run(["logits"], feed)[0], dtype=np.float32)


class TorchRuntime:
    """A Hugging Face classifier in eval mode, without gradients."""

    def __init__(self, model: Any, device: str = "cpu") -> None:
        import inspect

        self.model = model.eval().to(device)
        self.device = device
        self.inputs = set(inspect.signature(model.forward).parameters)

    @classmethod
    def load(cls, path: Path, device: str = "cpu", threads: int = 0) -> TorchRuntime:
        """Open a directory by `AutoModelForSequenceClassification`, from safetensors only.

        PyTorch has one number of threads for the whole process; 0 leaves it as it is.
        """
        require("torch", "transformers", purpose=f"running {path} in PyTorch")
        import torch
        from transformers import AutoModelForSequenceClassification

        if device == "cuda" and not torch.cuda.is_available():
            raise ToolkitError("PyTorch here finds no CUDA device", fix="--device cpu")
        if threads:
            torch.set_num_threads(threads)
        return cls(AutoModelForSequenceClassification.from_pretrained(path, use_safetensors=True), device)

    def run(self, batch: Batch) -> np.ndarray:
        """[B, L] int64 arrays by name to logits [B, C] float32."""
        import torch

        feed = {name: torch.from_numpy(array).to(self.device) for name, array in batch.items() if name in self.inputs}
        with torch.inference_mode():
            return np.asarray(self.model(**feed).logits.float().cpu().numpy())


def batched_logits(runtime: Runtime, encoded: Encoded, batch_size: int = 32) -> np.ndarray:
    """Logits [n, C] float32 of n >= 1 encoded inputs, in their order, run in batches of like length."""
    out: np.ndarray | None = None
    for rows in sorted_batches(encoded.lengths, batch_size):
        found = runtime.run(encoded.batch(rows))
        out = np.empty((len(encoded), found.shape[1]), dtype=np.float32) if out is None else out
        out[rows] = found
    assert out is not None, "no rows"
    return out


class Predictor:
    """A bundle ready to answer: its tokenizer, its runtime, its labels.

    Raises:
        ToolkitError: the tokenizer or the model cannot be loaded.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle, self.runtime, self.task = bundle, runtime, bundle.task
        self.encoder = TextEncoder(bundle.path, bundle.max_length)

    def logits(self, encoded: Encoded, batch_size: int = 32) -> np.ndarray:
        """Logits [n, C] float32 of n encoded inputs, in their order, batched by like length."""
        if not len(encoded):
            return np.empty((0, len(self.task.labels)), dtype=np.float32)
        return batched_logits(self.runtime, encoded, batch_size)

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Scores [n, C] float64: probabilities, or the number itself for regression."""
        return scores(self.logits(self.encoder.encode(texts, pairs)), self.task.kind)


def evaluate_bundle(
    path: str | Path, *, task: str | None = None, data: str | None = None, split: str = "dev", threads: int = 0
) -> dict[str, float]:
    """All of a task's metrics for a bundle on a labelled split.

    Args:
        path: a bundle.
        task: None for the bundle's own; another one must have the same labels.
        data: folder of files, or None for where the task's data is by default.
        split: "dev", "train" or, for MNLI, "dev_mismatched".
        threads: intra-op threads; 0 takes every core.

    Raises:
        ToolkitError: a damaged bundle, a task of other labels, or data that cannot be used.
    """
    require("sklearn", "scipy", purpose="toolkit evaluate")
    predictor = open_predictor(path, threads=threads)
    own = predictor.task
    chosen = own if task in (None, own.name) else get_task(str(task))
    if chosen.labels != own.labels:
        raise ToolkitError(
            f"{path} answers {', '.join(own.labels)}; {chosen.name} asks for {', '.join(chosen.labels)}",
            fix=f"--task {own.name}",
        )
    rows = load_split(chosen, split, data)
    return evaluate(chosen, predictor.logits(predictor.encoder.encode(rows.texts, rows.pairs)), rows.labels)


def open_predictor(path: str | Path, *, threads: int = 0, device: str = "cpu") -> Predictor:
    """Verify a bundle and load it: model.onnx by onnxruntime, model.safetensors by PyTorch.

    Raises:
        ToolkitError: the bundle is damaged, or the packages to run it are missing.
    """
    bundle = open_bundle(path)
    if bundle.weights.suffix != ".onnx":
        return Predictor(bundle, TorchRuntime.load(bundle.path, device, threads))
    predictor = Predictor(bundle, OnnxRuntime(bundle.weights, threads=threads, device=device))
    check_company(predictor)
    return predictor


def check_company(predictor: Predictor) -> None:
    """Refuse to run int8 where a text's logits depend on its company, which they never may; others are not asked.

    The export proves it, on its own machine. onnxruntime 1.21 to 1.24 multiply int8 wrongly on CPUs with AMX in one
    row of every 32, in the last columns of a width that is no multiple of 16, such as TinyBERT4's
    (github.com/microsoft/onnxruntime/pull/27671). Rows of random pieces, longer than 32 where the model takes that,
    put real tokens there.

    Raises:
        ToolkitError: the logits of a text alone and in a batch differ.
    """
    if predictor.bundle.precision != "int8":
        return
    encoder, random = predictor.encoder, np.random.default_rng(0)
    ids = [random.integers(0, encoder.vocabulary_size, min(length, encoder.max_length)) for length in COMPANY]
    encoded = Encoded(ids, [np.zeros_like(one) for one in ids], np.zeros(len(ids), dtype=bool), encoder.pad_id)
    alone, together = (predictor.logits(encoded, batch_size) for batch_size in (1, len(ids)))
    difference = float(np.abs(alone - together).max())
    if not difference <= MAX_COMPANY_DIFFERENCE:
        import onnxruntime

        raise ToolkitError(
            f"{predictor.bundle.path}: onnxruntime {onnxruntime.__version__} on this CPU gives a text other scores in "
            f"a batch than alone: logits differ by {difference:.2g}",
            expected=f"at most {MAX_COMPANY_DIFFERENCE:g}, as on the machine that exported it",
            fix="another release of onnxruntime: 1.21 to 1.24 multiply int8 wrongly on CPUs with AMX",
        )
