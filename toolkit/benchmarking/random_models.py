"""Models of a given architecture with random weights, in PyTorch and as fp32 ONNX, to be timed and never trusted.

Speed and size do not depend on the values of the weights. Both sides of a comparison are therefore built from their
`config.json` and written by one exporter, the one of `toolkit export`: claims are measured on the graph that ships.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from toolkit.errors import ToolkitError
from toolkit.files import atomic_directory
from toolkit.measurement.environment import tool_versions

Exporter = Callable[[Any, Path], None]  # a PyTorch classifier to an fp32 ONNX file
MODEL = "model.onnx"
EXPORT_PACKAGES = ("torch", "transformers", "onnx", "optimum-onnx")
# entries that name a model or its training but leave its graph as it is
_IRRELEVANT = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "finetuning_task")


def bert_base_config() -> dict[str, Any]:
    """Return BERT-base, uncased: the defaults of `transformers.BertConfig`, 12/768/3072/12, vocabulary 30522."""
    from transformers import BertConfig

    return dict(BertConfig().to_dict())


def architecture_key(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the entries of a `config.json` that shape the graph: equal for equal architectures."""
    relevant = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    relevant["id2label"] = relevant["label2id"] = len(config.get("id2label") or (0, 1))
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def build(config: Mapping[str, Any], *, attention: str = "sdpa", seed: int = 0) -> Any:
    """Build a classifier of this architecture with random weights, in fp32 and eval mode.

    Args:
        config: of a Hugging Face `config.json`.
        attention: "sdpa", the default of transformers, or "eager", which `toolkit export` traces.
        seed: of the weights; torch's own generator is left as it was.

    Raises:
        ToolkitError: transformers cannot build a classifier from this configuration.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    plain = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            resolved = AutoConfig.for_model(**plain)
            model = AutoModelForSequenceClassification.from_config(resolved, attn_implementation=attention)
        except (TypeError, ValueError, KeyError) as error:
            raise ToolkitError(f"no classifier can be built from this config.json: {error}") from error
        with torch.no_grad():  # equal tensors (zero biases) would be stored once in ONNX: a file smaller than real
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.01)
    return model.float().eval()


def export_random(config: Mapping[str, Any], folder: Path, export: Exporter) -> Path:
    """Write an architecture with random weights as fp32 ONNX, `model.onnx` in a folder of its own; return the file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_directory(folder) as staging:
        export(build(config, attention="eager"), staging / MODEL)
    return folder / MODEL


def cached_onnx(config: Mapping[str, Any], export: Exporter) -> Path:
    """Return the architecture as fp32 ONNX in the user's cache.

    The file is exported on first use, and again after a change of the exporter or an upgrade of its packages.
    """
    versions = [f"{name} {version}" for name, version in tool_versions().items() if name in EXPORT_PACKAGES]
    source = hashlib.sha256(Path(inspect.getfile(export)).read_bytes()).hexdigest()
    parts = [architecture_key(config), f"{export.__module__}.{export.__qualname__} {source}", *versions]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    folder = cache_directory() / f"{config['model_type']}-{key}"
    return folder / MODEL if folder.exists() else export_random(config, folder, export)


def cache_directory() -> Path:
    """Return `$XDG_CACHE_HOME/tinybert-toolkit`, or `~/.cache/tinybert-toolkit`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinybert-toolkit"


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set PyTorch's threads for a while; they are one number for the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
