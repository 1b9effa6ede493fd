"""The export of a PyTorch classifier to a float32 ONNX graph, and what is done with graph files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from toolkit.console import quiet_libraries
from toolkit.errors import ToolkitError, reason_of
from toolkit.inference import runtimes

# The newest opset of PyTorch's exporter, and the first with LayerNormalization and Gelu as one operator each.
OPSET = 20
MODEL_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
WEIGHTS_LIMIT = 2**31 - 2**20  # bytes; a protobuf file holds less than 2 GiB, larger weights go to a second file


@dataclass(frozen=True)
class LayerCount:
    """The calls of `nn.Linear` and `nn.Embedding` modules in one forward pass."""

    linear: int
    embedding: int


def load_classifier(path: Path) -> Any:
    """Load a classifier in float32 from a directory's safetensors, without network.

    Attention is eager: its trace holds the scale as a constant, while that of SDPA computes it in every run.
    """
    return runtimes.load_classifier(path, attn_implementation="eager").eval()


def count_layers(model: Any) -> LayerCount:
    """Count the layers that one forward pass uses in PyTorch, which a quantized graph must have too."""
    import torch

    from export.position_bias import constant_position_bias

    calls = {torch.nn.Linear: 0, torch.nn.Embedding: 0}

    def hook(module: Any, _args: Any, _output: Any) -> None:
        calls[type(module)] += 1

    ids = torch.ones(1, 4, dtype=torch.long)
    with torch.inference_mode(), constant_position_bias(model):
        hooks = [module.register_forward_hook(hook) for module in model.modules() if type(module) in calls]
        try:
            model(input_ids=ids, attention_mask=ids)
        finally:
            for handle in hooks:
                handle.remove()
    return LayerCount(linear=calls[torch.nn.Linear], embedding=calls[torch.nn.Embedding])


def export_fp32(model: Any, path: Path) -> None:
    """Write the float32 ONNX graph of a classifier: by optimum where it is installed, else by PyTorch's exporter.

    Both give the same graph. Its inputs are int64 [B, L] by name, its output `logits` is float32 [B, C]; B and L are
    free. Weights beyond 2 GiB go to `PATH_data` beside it.

    Args:
        model: a transformers classifier with eager attention, in float32.
        path: the file to write.

    Raises:
        ToolkitError: the architecture cannot be exported, or the graph fails `check_graph`.
    """
    from export.attention_mask import additive_mask
    from export.position_bias import constant_position_bias

    write = by_optimum if optimum_is_installed() else by_torch
    # the gates check on real rows what the exporters and the tracer warn of
    with quiet_libraries(), additive_mask(model), constant_position_bias(model):
        try:
            write(model, path)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ToolkitError(
                f"a {model.config.model_type} classifier cannot be exported: {reason_of(error)}",
                expected="an architecture such as bert, distilbert, roberta, electra or mpnet",
            ) from error
    check_graph(path)


def optimum_is_installed() -> bool:
    """Return whether optimum has its ONNX exporter here. It comes in a package of its own, for transformers 4."""
    return find_spec("optimum") is not None and find_spec("optimum.exporters.onnx") is not None


def by_optimum(model: Any, path: Path) -> None:
    """Export by optimum, which configures PyTorch's exporter for each architecture."""
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model, task="text-classification", library_name="transformers"
    )
    export(model, constructor(model.config, task="text-classification"), path, opset=OPSET)


def by_torch(model: Any, path: Path) -> None:
    """Export by PyTorch's tracer, as optimum does: its nodes are named after modules, which the rewrites read."""
    import onnx
    import torch

    names = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in names}
    ids = torch.ones(2, 16, dtype=torch.long)
    with TemporaryDirectory(dir=path.parent) as folder, torch.no_grad():  # large weights are a file each there
        traced = Path(folder) / path.name
        torch.onnx.export(
            model, (dict.fromkeys(names, ids),), traced, dynamo=False, opset_version=OPSET, input_names=names,
            output_names=["logits"], dynamic_axes={**axes, "logits": {0: "batch_size"}},
        )  # fmt: skip
        save_graph(onnx.load(traced), path)


def to_half(path: Path) -> Any:
    """Convert a float32 graph to half precision, for CUDA; inputs stay int64 and logits float32.

    The mask's most negative float32 becomes -10,000, which softmax turns to 0 as well.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet_libraries():  # a warning for each number beyond half precision; the gates check the effect
        return convert_float_to_float16(onnx.load(path), keep_io_types=True)


def check_graph(path: Path) -> None:
    """Check that a graph is valid ONNX, has the known inputs and output, and leaves batch size and length free.

    Raises:
        ToolkitError: a check fails.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ToolkitError(f"{path.name} is not a valid ONNX graph: {error}", fix="export the bundle again") from error
    graph = onnx.load(path, load_external_data=False).graph
    names = {value.name for value in graph.input}
    outputs = [value.name for value in graph.output]
    if not {"input_ids", "attention_mask"} <= names <= MODEL_INPUTS or outputs != ["logits"]:
        raise ToolkitError(
            f"the exported graph has inputs {sorted(names)} and outputs {outputs}",
            expected=f"inputs out of {sorted(MODEL_INPUTS)} and the output logits",
        )
    fixed = [
        value.name for value in graph.input if not all(axis.dim_param for axis in value.type.tensor_type.shape.dim)
    ]
    if fixed:
        raise ToolkitError(f"the exported graph fixes batch size or length of {', '.join(fixed)}")


class GraphDescription(TypedDict):
    """The versions that a graph needs, and its number of nodes."""

    ir_version: int
    opsets: dict[str, int]
    nodes: int


def describe_graph(path: Path) -> GraphDescription:
    """Read a graph's IR version, opsets by domain and number of nodes."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    opsets = {opset.domain or "ai.onnx": opset.version for opset in model.opset_import}
    return {"ir_version": model.ir_version, "opsets": opsets, "nodes": len(model.graph.node)}


def save_graph(model: Any, path: Path) -> None:
    """Save a graph as one file, or with `PATH_data` beside it where one file cannot hold the weights."""
    import onnx

    external = model.ByteSize() > WEIGHTS_LIMIT
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}_data" if external else None)
