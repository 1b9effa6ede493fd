"""The layout of a Triton Inference Server model: REPOSITORY/NAME/config.pbtxt and REPOSITORY/NAME/1/model.onnx.

The model's folder is still a bundle: Triton ignores the tokenizer, `bundle.json` and other files beside config.pbtxt.
config.pbtxt does not hold the folder's name, so the folder can be renamed. Format:
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.tasks import Task

VERSION = "1"
LABELS = "labels.txt"
MAX_BATCH_SIZE = 32
INSTANCES = 2
DATA_TYPES = {1: "TYPE_FP32", 6: "TYPE_INT32", 7: "TYPE_INT64", 10: "TYPE_FP16"}  # by ONNX's TensorProto.DataType
CONFIG = """\
# For Triton Inference Server 25.03 or later, whose onnxruntime reads this model's opset and IR version.
backend: "onnxruntime"
max_batch_size: {max_batch_size}
{tensors}

# Texts of one length share a batch. Pad to a few lengths, such as multiples of 16: scores do not depend on padding.
dynamic_batching {{ }}

# Instances of one thread each answer more texts a second than one with all threads; count: the cores to use.
instance_group [ {{ kind: {device} count: {instances} }} ]
parameters {{ key: "intra_op_thread_count" value: {{ string_value: "1" }} }}
parameters {{ key: "inter_op_thread_count" value: {{ string_value: "1" }} }}
"""


def write_triton(folder: Path, task: Task, precision: str) -> None:
    """Move a folder's model.onnx to 1/model.onnx, and write config.pbtxt and labels.txt.

    Args:
        folder: of the model, REPOSITORY/NAME.
        task: its labels are the answers of Triton's classification extension.
        precision: fp16 runs on CUDA, every other one on CPUs.
    """
    import onnx

    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    (folder / VERSION).mkdir()
    for path in folder.glob("model.onnx*"):  # external data too
        path.rename(folder / VERSION / path.name)
    labels = [] if task.kind == "regression" else list(task.labels)
    if labels:
        (folder / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    label_file = f' label_filename: "{LABELS}"' if labels else ""
    tensors = [_tensor("input", value) for value in graph.input]
    tensors += [_tensor("output", value, label_file) for value in graph.output]
    text = CONFIG.format(
        max_batch_size=MAX_BATCH_SIZE, tensors="\n".join(tensors), instances=INSTANCES,
        device="KIND_GPU" if precision == "fp16" else "KIND_CPU",
    )  # fmt: skip
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")


def _tensor(side: str, value: Any, label_file: str = "") -> str:
    """Write an input or output; Triton adds the batch axis itself."""
    tensor = value.type.tensor_type
    dims = [axis.dim_value or -1 for axis in tensor.shape.dim][1:]
    return f'{side} {{ name: "{value.name}" data_type: {DATA_TYPES[tensor.elem_type]} dims: {dims}{label_file} }}'
