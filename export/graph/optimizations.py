"""A float32 classifier graph to one that computes the same with less.

`prune_to_first_token`: a classifier reads the last layer's output at [CLS] alone, so of all other tokens only keys and
values are needed there. Queries, attention's output and the feed-forward network are cut to one token.

`tokens_first`: from hidden states [L, B, K], heads [L, B, A, d] are read in place by the products of attention
(onnxruntime's FusedMatMul takes batch axes behind the first); from [B, L, K], query, key and value are each copied into
[B, A, L, d] before. Attention's scores and the mask stay [B, A, L, L].

A: heads, B: texts, d: width of a head, K: of the model, L: tokens.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from export.graph.editor import GraphEditor, attribute

# operators that work number by number, or along the last axis alone
BY_TOKEN = {"Add", "Div", "Erf", "Gelu", "LayerNormalization", "Mul", "Pow", "Relu", "Softmax", "Sub", "Tanh"}
TO_HEADS, TO_COLUMNS = [0, 2, 1, 3], [0, 2, 3, 1]  # [B, L, A, d] to [B, A, L, d], and to [B, A, d, L]
FROM_HEADS = [2, 0, 1, 3]  # [B, A, L, d] to [L, B, A, d]
IR_VERSION = 10


def prune_to_first_token(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute only the first token wherever no other is read.

    Walks back from where token 0 is taken out of [B, L, K], through what works token by token. Where that ends, or
    where others read all tokens, a Slice stands. An operator that is not known ends it, so any graph stays right.
    """
    model = prune_unused(model)
    editor, shapes = GraphEditor(model), _shapes(model)
    wanted: dict[str, dict[int, int]] = {}  # by tensor: nodes that read its first place alone, and of which axis
    sliced: list[tuple[int, str, int]] = []
    for number, node in reversed(list(enumerate(editor.old))):
        if _takes_first(editor, node):
            wanted[node.input[0]] = {number: 1}
            continue
        readers = wanted.get(node.output[0], {})
        behind = None
        if len(readers) == len(editor.readers.get(node.output[0], [])) and len(set(readers.values())) == 1:
            behind = _reads(editor, node, next(iter(readers.values())), shapes)
        if behind is None:
            sliced += [(reader, node.output[0], axis) for reader, axis in readers.items()]
        for name, axis in behind or ():
            wanted.setdefault(name, {})[number] = axis
    sliced = [one for one in sliced if not _takes_first(editor, editor.old[one[0]])]
    for reader, name, _ in sliced:
        inputs = editor.old[reader].input
        inputs[list(inputs).index(name)] = f"{name}_first"
    cut = {name: axis for _, name, axis in sliced}
    for node in editor.old:
        editor.nodes.append(node)
        for name in cut.keys() & set(node.output):
            zero, one, along = (editor.constant(f"index_{k}", np.array([k], dtype=np.int64)) for k in (0, 1, cut[name]))
            editor.add("Slice", [name, zero, one, along], f"{name}_first")
    return editor.build(model.opset_import[0].version, IR_VERSION)


def _takes_first(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    """Whether a node is Gather(x [B, L, K], 0, axis=1)."""
    if node.op_type != "Gather" or node.input[1] not in editor.constants or node.input[0] in editor.constants:
        return False
    index = editor.array(node.input[1])
    return index.ndim == 0 and int(index) == 0 and attribute(node, "axis", 0) == 1


def _reads(
    editor: GraphEditor, node: onnx.NodeProto, axis: int, shapes: dict[str, list[int]]
) -> list[tuple[str, int]] | None:
    """What a node needs the first place of, for its output's first place of `axis`; None: not known."""
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
    found = []
    for name in node.input:
        shape = shapes.get(name) if name not in editor.constants else list(editor.constants[name].dims)
        if shape is None:
            return None
        there = axis - rank + len(shape)  # axes are counted from the last one
        if there >= 0 and shape[there] != 1:
            if name in editor.constants:
                return None
            found.append((name, there))
    return found


def prune_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without nodes that nothing needs: those that worked out shapes read hidden states too."""
    editor = GraphEditor(model)
    editor.nodes = list(editor.old)
    return editor.build(model.opset_import[0].version, IR_VERSION)


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Axes of tensors as far as they can be told; an axis of any length is -1."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        one.name: [axis.dim_value if axis.HasField("dim_value") else -1 for axis in one.type.tensor_type.shape.dim]
        for one in (*graph.value_info, *graph.input)
        if one.type.tensor_type.HasField("shape")
    }


class _UnknownError(Exception):
    """A graph that is not put together as a BERT is."""


def tokens_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """Hidden states as [L, B, K]; the model as it is where its attention is not that of BERT, RoBERTa and ELECTRA."""
    try:
        return _TokensFirst(model).build()
    except _UnknownError:
        return model


def moved_ids(name: str) -> str:
    """Name of ids [L, B] that were [B, L]."""
    return f"{name}_tokens_first"


class _TokensFirst:
    """The new graph, node by node.

    Attributes:
        moved: tensors that are [L, B, ...] now.
        heads: outputs of Transpose nodes that fell away: what was transposed, and whether to columns.
        contexts: attention's outputs [B, A, L, d].
        short: tensors of the first token alone.
        scores: attention scores [B, A, L, L].
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, tidy = model, prune_unused(model)
        self.editor, self.shapes = GraphEditor(tidy), _shapes(tidy)
        norms = [node for node in self.editor.old if node.op_type == "LayerNormalization"]
        self.widths = {int(self.editor.array(node.input[1]).size) for node in norms}
        self.moved: set[str] = set()
        self.heads: dict[str, tuple[str, bool]] = {}
        self.contexts: set[str] = set()
        self.short: set[str] = set()
        self.scores: set[str] = set()
        self.renamed: dict[str, str] = {}

    def build(self) -> onnx.ModelProto:
        """Go through the nodes in order.

        Raises:
            _UnknownError: one that is not known.
        """
        for node in self.editor.old:
            for i, name in enumerate(node.input):
                node.input[i] = self.renamed.get(name, name)
            if node.op_type == "Gather" and self._is_embedding(node):
                self._embedding(node)
            elif any(name in self.heads for name in node.input):
                self._product(node)
            elif node.op_type == "Transpose" and node.input[0] in self.contexts:
                self._expect(attribute(node, "perm", []) == TO_HEADS)
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("perm", FROM_HEADS))
                self._keep(node, moved=True)
            elif any(name in self.moved for name in node.input):
                self._row(node)
            else:
                if node.op_type == "Add" and self.scores & set(node.input):
                    self._mask(node)
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
            if self.short & set(node.input) or node.op_type == "Slice":
                self.short.add(node.output[0])

    def _is_embedding(self, node: onnx.NodeProto) -> bool:
        return self.editor.is_matrix(node.input[0]) and self.editor.array(node.input[0]).shape[1] in self.widths

    def _embedding(self, node: onnx.NodeProto) -> None:
        ids = moved_ids(node.input[1])
        if not any(ids in one.output for one in self.editor.nodes):
            self.editor.add("Transpose", [node.input[1]], ids, perm=[1, 0])
        node.input[1] = ids
        self._keep(node, moved=True)

    def _row(self, node: onnx.NodeProto) -> None:
        """A node that reads hidden states."""
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
            del node.attribute[:]  # its axis is 0 now
            self._keep(node)
            return
        self._keep(node, moved=True)

    def _product(self, node: onnx.NodeProto) -> None:
        """Queries by keys, or attention probabilities by values."""
        self._expect(node.op_type == "MatMul" and node.input[1] in self.heads)
        right, columns = self.heads[node.input[1]]
        if node.input[0] not in self.heads:
            self._expect(not columns)
            self.editor.add("FusedMatMul", [node.input[0], right], node.output[0], transBatchB=1)
            self.contexts.add(node.output[0])
            return
        left, wrong = self.heads[node.input[0]]
        (scale, *more) = self.editor.readers[node.output[0]]
        self._expect(columns and not wrong and not more)
        scaled = scale.op_type in ("Div", "Mul") and scale.input[1] in self.editor.constants
        self._expect(scaled and self.editor.array(scale.input[1]).size == 1)
        factor = float(self.editor.array(scale.input[1]).item())
        alpha = 1 / factor if scale.op_type == "Div" else factor
        self.renamed[scale.output[0]] = node.output[0]
        if left not in self.short:
            self.scores.add(node.output[0])
        self.editor.add(
            "FusedMatMul", [left, right], node.output[0], transBatchA=1, transBatchB=1, transB=1, alpha=alpha
        )

    def _mask(self, node: onnx.NodeProto) -> None:
        """Write the mask [B, 1, 1, L] out as [B, 1, L, L], once: adding L^2 numbers at a time is faster than L."""
        place = 1 if node.input[0] in self.scores else 0
        mask = node.input[place]
        if self.shapes.get(mask, [])[1:3] != [1, 1]:
            return
        add, constant = self.editor.add, self.editor.constant
        if not any(f"{mask}_square" in one.output for one in self.editor.nodes):
            length = add("Shape", ["attention_mask"], f"{mask}_length", start=1, end=2)
            ones = constant("index_1_1", np.array([1, 1], dtype=np.int64))
            shape = add("Concat", [ones, length, constant("index_1", np.array([1]))], f"{mask}_shape", axis=0)
            add("Expand", [mask, shape], f"{mask}_square")
        node.input[place] = f"{mask}_square"
