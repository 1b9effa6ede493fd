"""An ONNX graph to rewrite: its nodes with constants taken out, new nodes in order, and what is not used left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

CONTRIB = {"FusedMatMul", "MatMulIntegerToFloat", "MatMulNBits"}  # onnxruntime's own operators


class GraphEditor:
    """The nodes of a graph, its constants by name, and the nodes of the graph that is to take its place.

    Attributes:
        old: the graph's nodes without those that only name or make a constant.
        nodes: the new graph's nodes, in order.
        constants: tensors by name.
        producer: the old node behind each tensor.
        readers: the old nodes that read each tensor.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {one.name: one for one in self.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.old = self._take_nodes()
        self.producer = {output: node for node in self.old for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.old:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        for node in self.old:
            self._fix_shape(node)

    def _take_nodes(self) -> list[onnx.NodeProto]:
        """Exporters share equal weights by Identity, and give small constants nodes of their own."""
        same: dict[str, str] = {}
        kept = []
        for original in self.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            for i, name in enumerate(node.input):
                node.input[i] = same.get(name, name)
            if node.op_type == "Identity" and node.input[0] in self.constants:
                same[node.output[0]] = node.input[0]
            elif node.op_type == "Constant" and node.attribute[0].name == "value":
                tensor = onnx.TensorProto()
                tensor.CopyFrom(node.attribute[0].t)
                tensor.name = node.output[0]
                self.constants[node.output[0]] = tensor
            else:
                kept.append(node)
        return kept

    def _fix_shape(self, node: onnx.NodeProto) -> None:
        """Reshape to (batch size, length, 12, 26), both worked out in every run, becomes Reshape to (0, 0, 12, 26).

        0 copies the input's own axis, and the nodes that worked the shape out fall away.
        """
        made = self.producer.get(node.input[1]) if node.op_type == "Reshape" else None
        if made is None or made.op_type != "Concat":
            return
        shape: list[int] = []
        for axis, name in enumerate(made.input):
            if name in self.constants:
                shape += self.array(name).reshape(-1).tolist()
            elif self._axis_behind(name) == axis == len(shape):
                shape.append(0)
            else:
                return
        node.input[1] = self.constant(f"shape_{'_'.join(map(str, shape))}", np.array(shape, dtype=np.int64))
        del node.attribute[:]  # allowzero, which would make 0 an empty axis

    def _axis_behind(self, name: str) -> int | None:
        """Unsqueeze(Gather(Shape(x), i)) -> i."""
        unsqueeze = self.producer.get(name)
        gather = self.producer.get(unsqueeze.input[0]) if unsqueeze and unsqueeze.op_type == "Unsqueeze" else None
        shape = self.producer.get(gather.input[0]) if gather and gather.op_type == "Gather" else None
        if gather is None or shape is None or shape.op_type != "Shape" or gather.input[1] not in self.constants:
            return None
        return int(self.array(gather.input[1]).item())

    def array(self, name: str) -> np.ndarray:
        """A constant's values."""
        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def is_matrix(self, name: str) -> bool:
        """Whether a name is a constant float32 matrix."""
        one = self.constants.get(name)
        return one is not None and len(one.dims) == 2 and one.data_type == onnx.TensorProto.FLOAT

    def constant(self, name: str, value: Any) -> str:
        """Add a constant, once for each name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node with one output, which names it too."""
        domain = {"domain": "com.microsoft"} if operator in CONTRIB else {}
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **domain, **attributes))
        return output

    def build(self, opset: int, ir_version: int) -> onnx.ModelProto:
        """The new model, holding only nodes and constants that its outputs need."""
        needed = {one.name for one in self.graph.output}
        nodes = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                nodes.append(node)
                needed |= set(node.input)
        constants = [one for name, one in self.constants.items() if name in needed]
        graph = helper.make_graph(nodes[::-1], self.graph.name, self.graph.input, self.graph.output, constants)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="tinybert-toolkit")


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or the default."""
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def layer_name(node: onnx.NodeProto) -> str:
    """/bert/encoder/layer.0/attention/self/query/MatMul -> bert.encoder.layer.0.attention.self.query."""
    return ".".join(node.name.strip("/").split("/")[:-1])
