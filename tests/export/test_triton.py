"""The Triton layout: config.pbtxt, parsed by protobuf's text format, against the graph; the folder stays a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from export.pipeline import run_export
from export.triton import write_triton
from toolkit.bundle.format import open_bundle
from toolkit.config import ExportConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.tasks import Task, get_task

# The fields of model_config.proto that a classifier can need, with its names, numbers and types: the text format
# refuses every other name, and values that do not fit.
ENUMS = {
    "DataType": ["TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8",
                 "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING"],
    "Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
}  # fmt: skip
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelConfig": {
        "name": (1, "string"), "platform": (2, "string"), "backend": (17, "string"), "max_batch_size": (4, "int32"),
        "input": (5, "ModelInput*"), "output": (6, "ModelOutput*"), "dynamic_batching": (11, "ModelDynamicBatching"),
        "instance_group": (7, "ModelInstanceGroup*"), "default_model_filename": (8, "string"),
        "parameters": (14, "ParametersEntry*"),
    },
    "ModelInput": {
        "name": (1, "string"), "data_type": (2, "DataType"), "dims": (4, "int64*"), "allow_ragged_batch": (7, "bool"),
        "optional": (8, "bool"),
    },
    "ModelOutput": {
        "name": (1, "string"), "data_type": (2, "DataType"), "dims": (3, "int64*"), "label_filename": (4, "string"),
    },
    "ModelInstanceGroup": {"name": (1, "string"), "kind": (4, "Kind"), "count": (2, "int32"), "gpus": (3, "int32*")},
    "ModelDynamicBatching": {"preferred_batch_size": (1, "int32*"), "max_queue_delay_microseconds": (2, "uint64")},
    "ModelParameter": {"string_value": (1, "string")},
    "ParametersEntry": {"key": (1, "string"), "value": (2, "ModelParameter")},
}  # fmt: skip


def model_config() -> Any:
    """An empty ModelConfig message."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            plain = kind.rstrip("*")
            made = message.field.add(name=field, number=number, label=3 if kind.endswith("*") else 1)
            if plain in MESSAGES or plain in ENUMS:
                made.type, made.type_name = (11 if plain in MESSAGES else 14), f".inference.{plain}"
            else:
                made.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{plain.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()


def parsed(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), model_config())


@pytest.fixture(scope="module")
def exported(tiny_student: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("repository") / "reviews"
    run_export(ExportConfig(str(tiny_student), str(out), layout="triton", data=str(data_dir), max_drop=100.0))
    return out


def test_the_configuration_is_that_of_the_graph(exported: Path) -> None:
    config, graph = parsed(exported), onnx.load(exported / "1" / "model.onnx").graph
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 32)
    assert config.HasField("dynamic_batching")
    assert [tensor.name for tensor in config.input] == [value.name for value in graph.input]
    assert {tensor.name for tensor in config.input} == {"input_ids", "attention_mask", "token_type_ids"}
    types = ENUMS["DataType"]
    assert [(types[tensor.data_type], list(tensor.dims)) for tensor in config.input] == [("TYPE_INT64", [-1])] * 3
    (logits,) = config.output
    assert (logits.name, types[logits.data_type], list(logits.dims)) == ("logits", "TYPE_FP32", [2])
    assert (exported / logits.label_filename).read_text().splitlines() == ["negative", "positive"]
    (group,) = config.instance_group
    assert (ENUMS["Kind"][group.kind], group.count) == ("KIND_CPU", 2)
    threads = {parameter.key: parameter.value.string_value for parameter in config.parameters}
    assert threads == {"intra_op_thread_count": "1", "inter_op_thread_count": "1"}
    assert not config.name, "a name would forbid to rename the directory"


def test_what_triton_would_refuse_does_not_parse(exported: Path, tmp_path: Path) -> None:
    text = (exported / "config.pbtxt").read_text()
    for right, wrong in (
        ("max_batch_size", "max_batch"), ("TYPE_INT64", "INT64"), ("[-1]", '["any"]'), ("KIND_CPU", "CPU"),
        ('string_value: "1"', "string_value: 1"), ("dynamic_batching { }", "dynamic_batching {"),
    ):  # fmt: skip
        assert right in text
        (tmp_path / "config.pbtxt").write_text(text.replace(right, wrong))
        with pytest.raises(text_format.ParseError):
            parsed(tmp_path)


def test_it_is_a_bundle_with_nothing_lost(exported: Path, tiny_student: Path) -> None:
    bundle = open_bundle(exported)
    assert bundle.weights == exported / "1" / "model.onnx"
    assert bundle.weight_bytes == bundle.weights.stat().st_size
    # a directory that is a number is a version to Triton, every other one is ignored
    assert [path.name for path in exported.iterdir() if path.is_dir()] == ["1"]
    files = {path.name for path in exported.iterdir()}
    assert files >= {"config.pbtxt", "labels.txt", "config.json", "tokenizer.json", "bundle.json"}
    texts = ["a lovely film", "a dull plot that is bad and very long"]
    answers, expected = (open_predictor(path, threads=1).predict(texts) for path in (exported, tiny_student))
    assert answers == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize(
    ("precision", "task", "kind", "labels"),
    [("fp16", get_task("sst2"), "KIND_GPU", True), ("fp32", get_task("stsb"), "KIND_CPU", False)],
)
def test_other_precisions_and_tasks(
    precision: str, task: Task, kind: str, labels: bool, tiny_onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes((tiny_onnx / "model.onnx").read_bytes())
    (tmp_path / "model.onnx_data").write_bytes(b"external")
    write_triton(tmp_path, task, precision)
    config = parsed(tmp_path)
    assert ENUMS["Kind"][config.instance_group[0].kind] == kind
    assert bool(config.output[0].label_filename) == (tmp_path / "labels.txt").exists() == labels
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == ["model.onnx", "model.onnx_data"]


def test_another_layout_is_refused() -> None:
    with pytest.raises(ToolkitError, match="--layout openvino: expected ort or triton"):
        ExportConfig("s", "o", layout="openvino").check()
