"""Runtimes: a batch of token ids in, logits out. Only `TorchRuntime` loads PyTorch."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from toolkit.bundle.graph import check_graph_bytes, check_graph_file
from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import Batch, EncodedTexts
from toolkit.errors import ToolkitError, require_packages


class Runtime(Protocol):
    """A loaded model that computes logits from padded token ids."""

    def run(self, batch: Batch) -> np.ndarray:
        """Compute logits [B, C] float32 from int64 arrays [B, L] by name."""
        ...


_memory_lock = threading.Lock()
_memory_bounds: list[int] = []


class OnnxRuntime:
    """An onnxruntime session over one model file.

    Args:
        path: model.onnx.
        threads: intra-op threads; 0 leaves the choice to onnxruntime (all cores).
        device: "cpu" or "cuda".
        spinning: let idle pool threads spin: faster for a session alone, harmful for several side by side.
            "running" lets them spin only until a run ends, for sessions that take turns.
        memory_pattern: keep a memory plan for each shape of batch; False keeps memory from growing with their number.
        content: the file's content, where it was read and verified before; the file is then not opened.

    Raises:
        ToolkitError: onnxruntime is missing, cannot load the file, or lacks the device.
    """

    def __init__(
        self, path: Path, *, threads: int = 0, device: str = "cpu", spinning: bool | Literal["running"] = True,
        memory_pattern: bool = True, content: bytes | None = None,
    ) -> None:  # fmt: skip
        require_packages("onnxruntime", purpose=f"running {path}")
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
        options.add_session_config_entry("session.load_model_format", "ONNX")  # the format that is checked
        try:
            if content is None:
                check_graph_file(path)
            else:
                check_graph_bytes(content, path)
            self.session = onnxruntime.InferenceSession(content or str(path), options, providers=[provider])
        except ToolkitError:
            raise
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise ToolkitError(f"onnxruntime cannot load {path}: {error}", fix="export the bundle again") from error
        if provider not in self.session.get_providers():  # onnxruntime falls back to the CPU without an error
            raise ToolkitError(f"onnxruntime could not start {provider} on this machine", fix="--device cpu")
        self.inputs = {node.name for node in self.session.get_inputs()}

    def run(self, batch: Batch) -> np.ndarray:
        """Compute logits [B, C] float32 from int64 arrays [B, L] by name."""
        feed = {name: array for name, array in batch.items() if name in self.inputs}
        return np.asarray(self.session.run(["logits"], feed)[0], dtype=np.float32)


def load_classifier(path: Path, files: Mapping[str, bytes] | None = None, **options: Any) -> Any:
    """Load a Hugging Face classifier from a directory's safetensors in float32, without network.

    Args:
        path: the directory.
        files: contents of config.json and model.safetensors, where they were read before; it is then not opened.
        options: of `from_pretrained`.

    Raises:
        ToolkitError: the files cannot be read, or do not fit each other.
    """
    from transformers import AutoModelForSequenceClassification, logging

    logging.disable_progress_bar()
    try:
        if files is not None:
            model = _classifier_of(files)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(
                path, use_safetensors=True, local_files_only=True, trust_remote_code=False, **options
            )
    except Exception as error:  # safetensors' own exception, and whatever a config.json without sense leads to
        raise ToolkitError(f"PyTorch cannot load {path}: {error}", fix="make the bundle again") from error
    return model.float()  # transformers 5 keeps the type of stored weights


def _classifier_of(files: Mapping[str, bytes]) -> Any:
    """Make a classifier of the contents of its files; code of its own that config.json names is never looked for."""
    from safetensors.torch import load
    from transformers import CONFIG_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    entries = json.loads(files["config.json"])
    config = CONFIG_MAPPING[entries["model_type"]].from_dict(entries)
    kind = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    return kind.from_pretrained(None, config=config, state_dict=load(files["model.safetensors"]))


@contextmanager
def memory_limit(extra: int) -> Iterator[None]:
    """Let this process take at most `extra` bytes more meanwhile, so that a model that takes more fails alone.

    Of several at once the largest counts. Only Linux says how much is taken; elsewhere nothing is limited.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    bound = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + extra
    with _memory_lock:
        if not _memory_bounds:
            _memory_bounds.append(resource.getrlimit(resource.RLIMIT_AS)[0])  # what holds when all are over
        _memory_bounds.append(bound)
        _apply_memory_bounds()
    try:
        yield
    finally:
        with _memory_lock:
            _memory_bounds.remove(bound)
            _apply_memory_bounds()
            if len(_memory_bounds) == 1:
                _memory_bounds.clear()


def _apply_memory_bounds() -> None:
    import resource

    before, *bounds = _memory_bounds
    bound = max(bounds, default=before)
    soft = bound if before == resource.RLIM_INFINITY else min(bound, before)
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))


class TorchRuntime:
    """A Hugging Face classifier in eval mode, without gradients."""

    def __init__(self, model: Any, device: str = "cpu") -> None:
        import inspect

        self.model = model.eval().to(device)
        self.device = device
        self.inputs = set(inspect.signature(model.forward).parameters)

    @classmethod
    def load(
        cls, path: Path, device: str = "cpu", threads: int = 0, files: Mapping[str, bytes] | None = None
    ) -> TorchRuntime:
        """Open a directory, or `files` of it that were read before, as `load_classifier` does.

        PyTorch has one number of threads for the whole process; 0 leaves it as it is.
        """
        require_packages("torch", "transformers", purpose=f"running {path} in PyTorch")
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ToolkitError("PyTorch here finds no CUDA device", fix="--device cpu")
        if threads:
            torch.set_num_threads(threads)
        return cls(load_classifier(path, files), device)

    def run(self, batch: Batch) -> np.ndarray:
        """Compute logits [B, C] float32 from int64 arrays [B, L] by name."""
        import torch

        feed = {name: torch.from_numpy(array).to(self.device) for name, array in batch.items() if name in self.inputs}
        with torch.inference_mode():
            return np.asarray(self.model(**feed).logits.float().cpu().numpy())


def batched_logits(
    runtime: Runtime, encoded: EncodedTexts, batch_size: int = 32, most_tokens: int | None = None
) -> np.ndarray:
    """Compute logits [n, C] float32 of n >= 1 encoded inputs, in their order, run in batches of like length.

    The batches have at most `batch_size` inputs and `most_tokens` tokens, padding included, as `sorted_batches` says.
    """
    batches = list(sorted_batches(encoded.lengths, batch_size, most_tokens))
    logits = np.concatenate([runtime.run(encoded.batch(rows)) for rows in batches])
    in_order = np.empty(logits.shape, dtype=np.float32)
    in_order[np.concatenate(batches)] = logits
    return in_order
