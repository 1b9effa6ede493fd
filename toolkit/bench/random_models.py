"""Models of a given architecture with random weights, in PyTorch and as fp32 ONNX, to be timed and never trusted.

Speed and size do not depend on what the weights say, so both sides of a comparison are built from their
`config.json` and written by one exporter: no side gains from how its file happened to be made.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from toolkit.console import quiet_libraries
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17
# what names a model or its training but leaves its graph as it is
_IRRELEVANT = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "finetuning_task")


def bert_base_config() -> dict[str, Any]:
    """BERT-base, uncased: the defaults of `transformers.BertConfig`, 12/768/3072/12, vocabulary 30522."""
    from transformers import BertConfig

    return dict(BertConfig().to_dict())


def architecture_key(config: Mapping[str, Any]) -> str:
    """One name for one architecture: SHA-256 of what in a `config.json` shapes the graph."""
    kept = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    kept["id2label"] = kept["label2id"] = len(config.get("id2label") or (0, 1))
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def build(config: Mapping[str, Any], *, attention: str = "sdpa", seed: int = 0) -> Any:
    """A classifier of this architecture with random weights, in fp32 and eval mode.

    Args:
        config: of a Hugging Face `config.json`.
        attention: "sdpa", as a user of transformers gets it, or "eager", whose ONNX graph is the plain one.
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


def export_onnx(config: Mapping[str, Any], path: Path) -> None:
    """Write the architecture as fp32 ONNX with free batch and length; nothing is left behind on a failure.

    The graph is the plain one of the TorchScript exporter with eager attention; onnxruntime fuses it when it loads.
    """
    model = build(config, attention="eager")
    names = [name for name in INPUTS if name in _forward_arguments(model)]
    ids = torch.full((2, 8), int(config.get("pad_token_id") or 0) + 1, dtype=torch.int64)
    sample = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    axes: dict[str, dict[int, str]] = {name: {0: "batch", 1: "length"} for name in names}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, fix="set XDG_CACHE_HOME to a folder that can be written") as partial:
        _trace(model, {name: sample[name] for name in names}, partial, axes)


def cached_onnx(config: Mapping[str, Any]) -> Path:
    """The architecture as fp32 ONNX out of the user's cache; exported on first use, anew after an upgrade."""
    tools = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "onnx")]
    key = hashlib.sha256("\n".join([architecture_key(config), f"opset {OPSET}", *tools]).encode()).hexdigest()[:16]
    path = cache_directory() / f"{config['model_type']}-{key}.onnx"
    if not path.is_file():
        export_onnx(config, path)
    return path


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/tinybert-toolkit`, or `~/.cache/tinybert-toolkit`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinybert-toolkit"


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """PyTorch's threads for a while; they are one number for the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _trace(model: Any, sample: dict[str, torch.Tensor], path: Path, axes: dict[str, dict[int, str]]) -> None:
    with quiet_libraries():
        torch.onnx.export(
            model,
            (sample,),
            str(path),
            input_names=list(sample),
            output_names=["logits"],
            dynamic_axes={**axes, "logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def _forward_arguments(model: Any) -> set[str]:
    import inspect

    return set(inspect.signature(model.forward).parameters)
