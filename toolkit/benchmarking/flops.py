"""Closed formulas for the parameters and FLOPs of a BERT classifier.

V vocabulary, P positions, T token types, N layers, H hidden width, F FFN width, C classes, L tokens.
Parameters of Hugging Face's BERT classifier, biases, LayerNorms and pooler included:

    embeddings  H * (V + P + T) + 2 * H
    layers      N * (4 * (H*H + H) + 2 * H * F + F + H + 4 * H)
    pooler      H * H + H
    classifier  C * H + C

FLOPs of one forward pass over one input: two for each multiply-add of every linear layer and of both attention products
(Q K^T and probabilities times V), one for each bias added. Not counted: embedding look-ups, softmax, LayerNorm,
GELU, residual additions. BERT-base at L = 128: 22.4 GFLOPs, TinyBERT4: 1.25 GFLOPs, 17.9 times fewer.

    layers      N * (L * (8 * H*H + 4 * H * F) + 4 * L*L * H + L * (5 * H + F))
    pooler      2 * H*H + H
    classifier  2 * C * H + C
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BertShape:
    """Dimensions of a BERT that decide its size; the defaults are BERT-base, uncased.

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
        """Read the shape from a Hugging Face `config.json`; None for another family than BERT."""
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
        """Count the parameters of a training-only map W_h (Eq. 8), H to the teacher's width, without bias: d' * d."""
        return self.hidden * teacher_hidden

    def flops(self, length: int) -> int:
        """Count the FLOPs of one forward pass over an input of L tokens, by the closed formula above."""
        h, f, n = self.hidden, self.ffn, length
        layer = n * (8 * h * h + 4 * h * f) + 4 * n * n * h + n * (5 * h + f)
        head = 2 * h * h + h + self.classes * (2 * h + 1)
        return self.layers * layer + head
