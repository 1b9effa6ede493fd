"""Rewrites of a float32 classifier graph that keep its answers and take less work.

`prune_to_first_token`: a classifier reads the last layer's output at [CLS] alone. Of all other tokens the last layer
needs only keys and values. Queries, attention's output and the feed-forward network are cut to one token.

`tokens_first`: hidden states become [L, B, D]. onnxruntime's FusedMatMul takes batch axes behind the first one, so it
reads the heads [L, B, A, d] in place. With hidden states [B, L, D], query, key and value are each copied into
[B, A, L, d] before the product. Attention's scores and the mask stay [B, A, L, L].

A: heads, B: texts, d: width of a head, D: width of the model, L: tokens.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from export.graph.editor import GraphEditor, attribute

# operators that work on each number, or along the last axis only
BY_TOKEN = {"Add", "Div", "Erf", "Gelu", "LayerNormalization", "Mul", "Pow", "Relu", "Softmax", "Sub", "Tanh"}
TO_HEADS, TO_COLUMNS = [0, 2, 1, 3], [0, 2, 3, 1]  # [B, L, A, d] to [B, A, L, d], and to [B, A, d, L]
FROM_HEADS = [2, 0, 1, 3]  # [B, A, L, d] to [L, B, A, d]
IR_VERSION = 10


def prune_to_first_token(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute only the first token wherever no other token is read.

    The walk starts at the Gather that takes token 0 out of [B, L, D] and goes back through operators that work token by
    token. A Slice is put at the first tensor whose other tokens are read too. An unknown operator ends the walk, so
    every graph keeps its answers.
    """
    model = prune_unused(model)
    editor, shapes = GraphEditor(model), _shapes(model)
    # by tensor: the nodes that read only its first token, and the axis of the tokens
    first_readers: dict[str, dict[int, int]] = {}
    sliced: list[tuple[int, str, int]] = []
    for number, node in reversed(list(enumerate(editor.source_nodes))):
        if _takes_first(editor, node):
            first_readers[node.input[0]] = {number: 1}
            continue
        readers = first_readers.get(node.output[0], {})
        inputs = None
        if len(readers) == len(editor.readers.get(node.output[0], [])) and len(set(readers.values())) == 1:
            inputs = _first_token_inputs(editor, node, next(iter(readers.values())), shapes)
        if inputs is None:
            sliced += [(reader, node.output[0], axis) for reader, axis in readers.items()]
        for name, axis in inputs or ():
            first_readers.setdefault(name, {})[number] = axis
    sliced = [cut for cut in sliced if not _takes_first(editor, editor.source_nodes[cut[0]])]
    for reader, name, _ in sliced:
        names = editor.source_nodes[reader].input
        names[list(names).index(name)] = f"{name}_first"
    axes = {name: axis for _, name, axis in sliced}
    for node in editor.source_nodes:
        editor.nodes.append(node)
        for name in axes.keys() & set(node.output):
            start, stop, along = (
                editor.constant(f"index_{index}", np.array([index], dtype=np.int64)) for index in (0, 1, axes[name])
            )
            editor.add("Slice", [name, start, stop, along], f"{name}_first")
    return editor.build(model.opset_import[0].version, IR_VERSION)


def _takes_first(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    """Return whether a node is Gather(x [B, L, D], 0, axis=1)."""
    if node.op_type != "Gather" or node.input[1] not in editor.constants or node.input[0] in editor.constants:
        return False
    index = editor.array(node.input[1])
    return index.ndim == 0 and int(index) == 0 and attribute(node, "axis", 0) == 1


def _first_token_inputs(
    editor: GraphEditor, node: onnx.NodeProto, axis: int, shapes: dict[str, list[int]]
) -> list[tuple[str, int]] | None:
    """Return the inputs, each with its axis of tokens, that a node needs only the first token of.

    Args:
        axis: the axis of tokens of the node's output, of which only the first is needed.

    Returns:
        None where the node is not known to work token by token.
    """
    rank = len(shapes.get(node.output[0], []))
    if node.op_type == "Transpose":
        return [(node.input[0], attribute(node, "perm", [])[axis])]
    if node.op_type == "Reshape" and axis == 1 and node.input[1] in editor.constants:
        target = editor.array(node.input[1]).tolist()  # the first two axes stay
        return [(node.input[0], 1)] if target[:2] in ([0, 0], [0, -1]) and len(target) > 2 else None
    if node.op_type == "MatMul" and axis == rank - 2:
        return [(node.input[0], axis)]
    if node.op_type not in BY_TOKEN or axis >= rank - 1 or attribute(node, "axis", -1) != -1:
        return None
    inputs = []
    for name in node.input:
        shape = shapes.get(name) if name not in editor.constants else list(editor.constants[name].dims)
        if shape is None:
            return None
        own_axis = axis - rank + len(shape)  # broadcasting counts axes from the last one
        if own_axis >= 0 and shape[own_axis] != 1:
            if name in editor.constants:
                return None
            inputs.append((name, own_axis))
    return inputs


def prune_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the nodes that no output needs. Unused nodes that compute shapes would count as readers of hidden states."""
    editor = GraphEditor(model)
    editor.nodes = list(editor.source_nodes)
    return editor.build(model.opset_import[0].version, IR_VERSION)


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Return the inferred shapes of tensors by name; a free axis is -1."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: [axis.dim_value if axis.HasField("dim_value") else -1 for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.HasField("shape")
    }


class _UnknownError(Exception):
    """The graph is not built as that of BERT is."""


def tokens_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """Lay hidden states out as [L, B, D]; return the model itself where its attention is not built as BERT's is."""
    try:
        return _TokensFirst(model).build()
    except _UnknownError:
        return model


def moved_ids(name: str) -> str:
    """Return the name of the transposed ids, [L, B]."""
    return f"{name}_tokens_first"


class _TokensFirst:
    """The rewrite of `tokens_first`, node by node.

    Attributes:
        moved: tensors that are [L, B, ...] in the new graph.
        heads: by the output of a dropped Transpose, its input and whether it gave columns [B, A, d, L].
        contexts: outputs of attention [B, A, L, d].
        first_only: tensors of the first token alone.
        scores: attention scores [B, A, L, L].
        renamed: new names of the outputs of dropped nodes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, pruned = model, prune_unused(model)
        self.editor, self.shapes = GraphEditor(pruned), _shapes(pruned)
        norms = [node for node in self.editor.source_nodes if node.op_type == "LayerNormalization"]
        self.widths = {int(self.editor.array(node.input[1]).size) for node in norms}
        self.moved: set[str] = set()
        self.heads: dict[str, tuple[str, bool]] = {}
        self.contexts: set[str] = set()
        self.first_only: set[str] = set()
        self.scores: set[str] = set()
        self.renamed: dict[str, str] = {}

    def build(self) -> onnx.ModelProto:
        """Rewrite the nodes in order.

        Raises:
            _UnknownError: a node that the rewrite does not know.
        """
        for node in self.editor.source_nodes:
            for i, name in enumerate(node.input):
                node.input[i] = self.renamed.get(name, name)
            if node.op_type == "Gather" and self._is_embedding(node):
                self._rewrite_embedding(node)
            elif node.op_type == "Shape" and node.input[0] in self.moved:
                self._rewrite_shape(node)
            elif any(name in self.heads for name in node.input):
                self._rewrite_product(node)
            elif node.op_type == "Transpose" and node.input[0] in self.contexts:
                self._expect(attribute(node, "perm", []) == TO_HEADS)
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("perm", FROM_HEADS))
                self._keep(node, moved=True)
            elif any(name in self.moved for name in node.input):
                self._rewrite_by_token(node)
            else:
                if node.op_type == "Add" and self.scores & set(node.input):
                    self._expand_mask(node)
                    self.scores.add(node.output[0])  # a bias of positions comes before the mask
                self._keep(node)
        self._expect(bool(self.contexts))
        return self.editor.build(self.model.opset_import[0].version, IR_VERSION)

    def _expect(self, known: bool) -> None:
        if not known:
            raise _UnknownError

    def _keep(self, node: onnx.NodeProto, moved: bool = False) -> None:
        self.editor.nodes.append(node)
        if moved:
            self.moved.add(node.output[0])
            if self.first_only & set(node.input) or node.op_type == "Slice":
                self.first_only.add(node.output[0])

    def _is_embedding(self, node: onnx.NodeProto) -> bool:
        return self.editor.is_matrix(node.input[0]) and self.editor.array(node.input[0]).shape[1] in self.widths

    def _rewrite_embedding(self, node: onnx.NodeProto) -> None:
        ids = moved_ids(node.input[1])
        if not any(ids in added.output for added in self.editor.nodes):
            self.editor.add("Transpose", [node.input[1]], ids, perm=[1, 0])
        node.input[1] = ids
        self._keep(node, moved=True)

    def _rewrite_shape(self, node: onnx.NodeProto) -> None:
        """Read B and L off the mask [B, L] instead of off hidden states."""
        for reader in self.editor.readers[node.output[0]]:
            known = reader.op_type == "Gather" and reader.input[1] in self.editor.constants
            self._expect(known and self.editor.array(reader.input[1]).tolist() in (0, 1))
        self._expect(not node.attribute)
        node.input[0] = "attention_mask"
        self._keep(node)

    def _rewrite_by_token(self, node: onnx.NodeProto) -> None:
        """Keep a node that reads hidden states, or drop the Transpose of heads."""
        constants = [name for name in node.input if name in self.editor.constants]
        if node.op_type in BY_TOKEN or node.op_type == "Reshape":
            self._expect(len(constants) + sum(name in self.moved for name in node.input) == len(node.input))
        elif node.op_type == "MatMul":
            self._expect(self.editor.is_matrix(node.input[1]))
        elif node.op_type == "Transpose":
            perm = attribute(node, "perm", [])
            self._expect(perm in (TO_HEADS, TO_COLUMNS))
            self.heads[node.output[0]] = (node.input[0], perm == TO_COLUMNS)
            return
        elif node.op_type == "Slice":
            self._expect(len(node.input) == 4 and self.editor.array(node.input[3]).tolist() == [1])
            node.input[3] = self.editor.constant("index_0", np.array([0], dtype=np.int64))
        else:
            self._expect(_takes_first(self.editor, node))
            del node.attribute[:]  # the axis of tokens is now 0, the default
            self._keep(node)
            return
        self._keep(node, moved=True)

    def _rewrite_product(self, node: onnx.NodeProto) -> None:
        """Rewrite the product of queries and keys, or of attention probabilities and values."""
        self._expect(node.op_type == "MatMul" and node.input[1] in self.heads)
        right, columns = self.heads[node.input[1]]
        if node.input[0] not in self.heads:
            self._expect(not columns)
            self.editor.add("FusedMatMul", [node.input[0], right], node.output[0], transBatchB=1)
            self.contexts.add(node.output[0])
            return
        left, left_columns = self.heads[node.input[0]]
        (scale, *more) = self.editor.readers[node.output[0]]
        self._expect(columns and not left_columns and not more)
        scaled = scale.op_type in ("Div", "Mul") and scale.input[1] in self.editor.constants
        self._expect(scaled and self.editor.array(scale.input[1]).size == 1)
        factor = float(self.editor.array(scale.input[1]).item())
        alpha = 1 / factor if scale.op_type == "Div" else factor
        self.renamed[scale.output[0]] = node.output[0]
        if left not in self.first_only:
            self.scores.add(node.output[0])
        self.editor.add(
            "FusedMatMul", [left, right], node.output[0], transBatchA=1, transBatchB=1, transB=1, alpha=alpha
        )

    def _expand_mask(self, node: onnx.NodeProto) -> None:
        """Expand the mask [B, 1, 1, L] to [B, 1, L, L], once: adding L^2 numbers at a time is faster than L."""
        position = 1 if node.input[0] in self.scores else 0
        mask = node.input[position]
        if self.shapes.get(mask, [])[1:3] != [1, 1]:
            return
        add, constant = self.editor.add, self.editor.constant
        if not any(f"{mask}_square" in added.output for added in self.editor.nodes):
            length = add("Shape", ["attention_mask"], f"{mask}_length", start=1, end=2)
            ones = constant("index_1_1", np.array([1, 1], dtype=np.int64))
            shape = add("Concat", [ones, length, constant("index_1", np.array([1]))], f"{mask}_shape", axis=0)
            add("Expand", [mask, shape], f"{mask}_square")
        node.input[position] = f"{mask}_square"
