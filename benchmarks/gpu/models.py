"""The two architectures that a GPU check measures: BERT-base and TinyBERT4, or small ones with --tiny."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gpu.report import Settings
from toolkit.benchmarking.models import BenchModel
from toolkit.benchmarking.random_models import bert_base_config
from toolkit.data.tokenization import EncodedTexts
from toolkit.models.student import Shape, student_config

TINY_BASE, TINY_STUDENT = Shape(3, 48, 96, 4), Shape(2, 24, 48, 4)


@dataclass(frozen=True)
class Architectures:
    """BERT-base and the student, as configurations of Hugging Face."""

    base: Any
    student: Any

    @classmethod
    def of(cls, settings: Settings) -> Architectures:
        """Return the paper's two, or small ones."""
        from transformers import BertConfig

        base = BertConfig(**bert_base_config())
        if settings.tiny:
            base = BertConfig(
                vocab_size=200, num_hidden_layers=TINY_BASE.layers, hidden_size=TINY_BASE.hidden,
                intermediate_size=TINY_BASE.ffn, num_attention_heads=TINY_BASE.heads,
            )  # fmt: skip
        shape = TINY_STUDENT if settings.tiny else Shape.parse("tinybert4")
        return cls(base, student_config(base, shape, dropout=0.0))

    def bench_models(self, settings: Settings) -> tuple[BenchModel, BenchModel]:
        """Return both as models to time; their ONNX files are where `runtimes` writes them."""
        base, student = (
            BenchModel(name, dict(config.to_dict()), settings.out / "onnx" / name / "model.onnx")
            for name, config in (("BERT-base", self.base), ("tinybert4", self.student))
        )
        return base, student


def full_rows(count: int, length: int, vocabulary: int) -> EncodedTexts:
    """Draw inputs of random ids without padding, as a packed corpus has them."""
    ids = list(np.random.default_rng(0).integers(vocabulary // 2, vocabulary, (count, length), dtype=np.int64))
    return EncodedTexts(ids, [np.zeros_like(row) for row in ids], np.zeros(count, dtype=bool), pad_id=0)
