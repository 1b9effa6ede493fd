"""How big a BERT classifier is and how much it computes: closed formulas, and counts read from weight files.

V vocabulary, P positions, T token types, N layers, H hidden width, F FFN width, C classes, B batch, L tokens.
Parameters of Hugging Face's BERT classifier, biases, LayerNorms and pooler included:

    embeddings  H * (V + P + T) + 2 * H
    layers      N * (4 * (H*H + H) + 2 * H * F + F + H + 4 * H)
    pooler      H * H + H
    classifier  C * H + C

FLOPs of one forward pass: two for each multiply-add of every linear layer and of both attention products
(Q K^T and probabilities times V), one for each bias added. Not counted: embedding look-ups, softmax, LayerNorm,
GELU, residual additions. BERT-base at L = 128: 22.4 GFLOPs, TinyBERT4: 1.25 GFLOPs, 17.9 times fewer.

    layers      N * (L * (8 * H*H + 4 * H * F) + 4 * L*L * H + L * (5 * H + F))
    pooler      2 * H*H + H
    classifier  2 * C * H + C
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError

# what names of tensors and nodes say, the first that matches; "attention" before the layer's own "output"
PARTS = {
    "embeddings": r"embedding",
    "attention": r"attention|\battn\b",
    "feed-forward": r"intermediate|output[./](dense|LayerNorm)|ffn|mlp",
    "head": r"pooler|classifier",
    "other": r"",
}


@dataclass(frozen=True)
class BertShape:
    """The numbers of a BERT `config.json` that decide its size; the defaults are BERT-base, uncased.

    Attributes:
        layers, hidden, ffn: N, H, F. The number of heads changes neither size nor FLOPs.
        vocabulary, positions, types: V, P, T.
        classes: C; 0 for the bare encoder with its pooler.
    """

    layers: int = 12
    hidden: int = 768
    ffn: int = 3072
    vocabulary: int = 30522
    positions: int = 512
    types: int = 2
    classes: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BertShape | None:
        """The shape that a Hugging Face `config.json` describes; None for another family than BERT."""
        if config.get("model_type") != "bert":
            return None
        return cls(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            ffn=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]),
            types=int(config["type_vocab_size"]),
            classes=len(config.get("id2label") or {0: "", 1: ""}),
        )

    @property
    def parameters(self) -> int:
        """Parameters of the model as deployed, by the closed formula above."""
        h, f = self.hidden, self.ffn
        embeddings = h * (self.vocabulary + self.positions + self.types) + 2 * h
        layer = 4 * (h * h + h) + 2 * h * f + f + h + 4 * h
        return embeddings + self.layers * layer + h * h + h + self.classes * (h + 1)

    def projection_parameters(self, teacher_hidden: int) -> int:
        """Parameters of one training-only map W_h (Eq. 8), H to the teacher's width, without bias: d' * d."""
        return self.hidden * teacher_hidden

    def flops(self, length: int, batch_size: int = 1) -> int:
        """FLOPs of one forward pass over B inputs of L tokens, by the closed formula above."""
        h, f, n = self.hidden, self.ffn, length
        layer = n * (8 * h * h + 4 * h * f) + 4 * n * n * h + n * (5 * h + f)
        head = 2 * h * h + h + self.classes * (2 * h + 1)
        return batch_size * (self.layers * layer + head)


def safetensors_parameters(path: Path) -> int:
    """Numbers stored in a safetensors file, counted from its header alone.

    Raises:
        ToolkitError: not a safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ToolkitError(f"{path} is not a safetensors file: {error}") from None


def file_bytes(path: Path) -> int:
    """Bytes of a weight file and of the external data beside it (model.onnx.data, model.onnx_data)."""
    return sum(one.stat().st_size for one in path.parent.iterdir() if one.is_file() and one.name.startswith(path.name))


def weight_parts(path: Path) -> dict[str, int]:
    """Bytes of a weight file by part of the model, largest concern first: they add up to `file_bytes`.

    A tensor belongs to the part that its name or, in ONNX, the nodes that read it name; "other" is the graph, headers
    and tensors that nothing tells of.

    Args:
        path: model.onnx or model.safetensors.
    """
    parts = dict.fromkeys(PARTS, 0)
    tensors = _safetensors_tensors(path) if path.suffix == ".safetensors" else _onnx_tensors(path)
    for name, size in tensors:
        parts[part_of(name)] += size
    parts["other"] += file_bytes(path) - sum(parts.values())
    return parts


def part_of(name: str) -> str:
    """The part of the model that a tensor's name, or the names around it, speak of."""
    return next((part for part, pattern in PARTS.items() if re.search(pattern, name)), "other")


def _safetensors_tensors(path: Path) -> list[tuple[str, int]]:
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    found = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return [(name, end - start) for name, (start, end) in found.items()]


def _onnx_tensors(path: Path) -> list[tuple[str, int]]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    bits = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4}
    return [
        (
            " ".join([one.name, *readers.get(one.name, [])]),
            math.prod(one.dims)
            * bits.get(one.data_type, 8 * onnx.helper.tensor_dtype_to_np_dtype(one.data_type).itemsize) // 8,
        )
        for one in graph.initializer
    ]  # fmt: skip
