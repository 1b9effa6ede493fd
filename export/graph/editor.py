"""An editor for ONNX graphs: reads the nodes and constants of one graph and collects the nodes of the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

CONTRIB = {"FusedMatMul", "MatMulIntegerToFloat"}  # onnxruntime's own operators


class GraphEditor:
    """The nodes of a source graph, its constants, and the nodes of the new graph.

    Attributes:
        source_nodes: nodes of the source, without those that only name or hold a constant.
        nodes: nodes of the new graph, in order.
        constants: tensors by name, of both graphs.
        producer: the source node that gives each tensor.
        readers: the source nodes that read each tensor.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.source_nodes = self._without_constants()
        self.producer = {output: node for node in self.source_nodes for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.source_nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        for node in self.source_nodes:
            self._fix_shape(node)

    def _without_constants(self) -> list[onnx.NodeProto]:
        """Copy the source's nodes; move constants out of them.

        Exporters share equal weights by Identity nodes and write small constants as Constant nodes.
        """
        shared: dict[str, str] = {}
        nodes = []
        for original in self.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            for i, name in enumerate(node.input):
                node.input[i] = shared.get(name, name)
            if node.op_type == "Identity" and node.input[0] in self.constants:
                shared[node.output[0]] = node.input[0]
            elif node.op_type == "Constant" and node.attribute[0].name == "value":
                tensor = onnx.TensorProto()
                tensor.CopyFrom(node.attribute[0].t)
                tensor.name = node.output[0]
                self.constants[node.output[0]] = tensor
            else:
                nodes.append(node)
        return nodes

    def _fix_shape(self, node: onnx.NodeProto) -> None:
        """Turn a Reshape to a computed (B, L, 12, 26) into a Reshape to the constant (0, 0, 12, 26).

        0 copies the axis of the input. The nodes that computed the shape are then unused.
        """
        target = self.producer.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is None or target.op_type != "Concat":
            return
        shape: list[int] = []
        for axis, name in enumerate(target.input):
            if name in self.constants:
                shape += self.array(name).reshape(-1).tolist()
            elif self._copied_axis(name) == axis == len(shape):
                shape.append(0)
            else:
                return
        node.input[1] = self.constant(f"shape_{'_'.join(map(str, shape))}", np.array(shape, dtype=np.int64))
        del node.attribute[:]  # allowzero, which would make 0 an empty axis

    def _copied_axis(self, name: str) -> int | None:
        """Return i of Unsqueeze(Gather(Shape(x), i)), or None for other nodes."""
        unsqueeze = self.producer.get(name)
        gather = self.producer.get(unsqueeze.input[0]) if unsqueeze and unsqueeze.op_type == "Unsqueeze" else None
        shape = self.producer.get(gather.input[0]) if gather and gather.op_type == "Gather" else None
        if gather is None or shape is None or shape.op_type != "Shape" or gather.input[1] not in self.constants:
            return None
        return int(self.array(gather.input[1]).item())

    def array(self, name: str) -> np.ndarray:
        """Return the values of a constant."""
        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def is_matrix(self, name: str) -> bool:
        """Return whether a name is that of a constant float32 matrix."""
        tensor = self.constants.get(name)
        return tensor is not None and len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT

    def constant(self, name: str, value: Any) -> str:
        """Add a constant, once for each name, and return the name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node with one output, which also names the node, and return the output."""
        domain = {"domain": "com.microsoft"} if operator in CONTRIB else {}
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **domain, **attributes))
        return output

    def build(self, opset: int, ir_version: int) -> onnx.ModelProto:
        """Build the new model from the nodes and constants that its outputs need."""
        needed = {output.name for output in self.graph.output}
        nodes = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                nodes.append(node)
                needed |= set(node.input)
        constants = [tensor for name, tensor in self.constants.items() if name in needed]
        graph = helper.make_graph(nodes[::-1], self.graph.name, self.graph.input, self.graph.output, constants)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="tinybert-toolkit")


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, or the default."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def layer_name(node: onnx.NodeProto) -> str:
    """Return the module that a node belongs to.

    /bert/encoder/layer.0/attention/self/query/MatMul -> bert.encoder.layer.0.attention.self.query
    """
    return ".".join(node.name.strip("/").split("/")[:-1])
