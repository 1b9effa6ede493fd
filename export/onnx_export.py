"""A PyTorch classifier to a float32 ONNX graph, by optimum, with dynamic batch size and length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.console import quiet_libraries
from toolkit.errors import ToolkitError

# The newest that PyTorch's exporter writes and the first in which both LayerNormalization and GELU are one operator.
OPSET = 20
MODEL_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
WEIGHTS_LIMIT = 2**31 - 2**20  # a protobuf file holds less than 2 GiB; beyond it weights go to a file of their own


@dataclass(frozen=True)
class LayerCount:
    """How often a forward pass goes through an `nn.Linear` and an `nn.Embedding`."""

    linear: int
    embedding: int


def load_classifier(path: Path) -> Any:
    """Open a directory by `AutoModelForSequenceClassification`, from safetensors, without network.

    Attention is the plain one: its trace has the scale as a constant, where SDPA's works it out in every run.
    """
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        path, use_safetensors=True, local_files_only=True, attn_implementation="eager"
    )
    return model.float().eval()


def count_layers(model: Any) -> LayerCount:
    """Count, in PyTorch, the layers that one forward pass uses: what a quantized graph must have."""
    import torch

    calls = {torch.nn.Linear: 0, torch.nn.Embedding: 0}

    def hook(module: Any, _args: Any, _output: Any) -> None:
        calls[type(module)] += 1

    hooks = [module.register_forward_hook(hook) for module in model.modules() if type(module) in calls]
    try:
        with torch.inference_mode():
            model(input_ids=torch.ones(1, 4, dtype=torch.long), attention_mask=torch.ones(1, 4, dtype=torch.long))
    finally:
        for one in hooks:
            one.remove()
    return LayerCount(linear=calls[torch.nn.Linear], embedding=calls[torch.nn.Embedding])


def export_fp32(model: Any, path: Path) -> None:
    """Write the float32 graph of a classifier: int64 [B, L] inputs by name to `logits` [B, C].

    Weights beyond 2 GiB go to a file beside it, `model.onnx_data`.

    Raises:
        ToolkitError: optimum cannot export this architecture, or the graph is not what the toolkit runs.
    """
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    kind = model.config.model_type
    # the gates check on real rows what optimum and the tracer warn of
    with quiet_libraries():
        try:
            constructor = TasksManager.get_exporter_config_constructor(
                "onnx", model, task="text-classification", library_name="transformers"
            )
            export(model, constructor(model.config, task="text-classification"), path, opset=OPSET)
        except (KeyError, ValueError, NotImplementedError) as error:
            raise ToolkitError(
                f"optimum cannot export a {kind} classifier: {error}",
                expected="an architecture that optimum exports, such as bert, distilbert, roberta, electra or mpnet",
            ) from error
    check_graph(path)


def to_half(path: Path) -> Any:
    """A float32 graph in half precision, for CUDA: inputs stay int64 and logits float32.

    The mask's most negative float32 becomes -10,000, which softmax turns to 0 as well.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet_libraries():  # a warning for each number that half precision cannot hold; the gates judge them
        return convert_float_to_float16(onnx.load(path), keep_io_types=True)


def check_graph(path: Path) -> None:
    """Check a graph in full, its inputs and output by name, and that batch size and length are free.

    Raises:
        ToolkitError: the file does not pass, and why.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ToolkitError(f"{path.name} is not a valid ONNX graph: {error}", fix="export the bundle again") from error
    graph = onnx.load(path, load_external_data=False).graph
    names = {one.name for one in graph.input}
    outputs = [one.name for one in graph.output]
    if not {"input_ids", "attention_mask"} <= names <= MODEL_INPUTS or outputs != ["logits"]:
        raise ToolkitError(
            f"the exported graph has inputs {sorted(names)} and outputs {outputs}",
            expected=f"inputs out of {sorted(MODEL_INPUTS)} and the output logits",
        )
    fixed = [one.name for one in graph.input if any(not axis.dim_param for axis in one.type.tensor_type.shape.dim)]
    if fixed:
        raise ToolkitError(f"the exported graph fixes batch size or length of {', '.join(fixed)}")


def save_graph(model: Any, path: Path) -> None:
    """Save a graph as one file, or with `model.onnx_data` beside it where one file cannot hold the weights."""
    import onnx

    external = model.ByteSize() > WEIGHTS_LIMIT
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}_data" if external else None)
