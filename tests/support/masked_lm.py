"""A small masked language model with the predictions that a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
)

from toolkit.augmentation.mlm_candidates import MaskedLMCandidates
from toolkit.models.loading import Source

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_mlm(path: Path, vocabulary: Sequence[str], best: Sequence[str] = (), seed: int = 0) -> Path:
    """A BertForMaskedLM over these pieces that always predicts `best`, in this order; else what chance gave it."""
    pieces = [*SPECIAL, *vocabulary]
    built = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    torch.manual_seed(seed)
    model = BertForMaskedLM(
        BertConfig(vocab_size=len(pieces), num_hidden_layers=2, hidden_size=16, intermediate_size=32,
                   num_attention_heads=2, max_position_embeddings=64, initializer_range=0.3)
    )  # fmt: skip
    with torch.no_grad():
        for rank, piece in enumerate(best):
            model.cls.predictions.bias[pieces.index(piece)] = 10_000.0 - 100 * rank  # far above what chance adds
    model.save_pretrained(path)
    PreTrainedTokenizerFast(tokenizer_object=built, mask_token="[MASK]", **names).save_pretrained(path)
    return path


def masked_words(
    path: Path, tmp_path: Path, k: int = 3, batch_size: int = 8, masks_per_input: int = 1, precision: str = "fp32"
) -> MaskedLMCandidates:
    return MaskedLMCandidates(Source(str(path), tmp_path), k, batch_size, masks_per_input, precision)
