"""A small WordPiece tokenizer, and random classifiers that give every answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors


def word_pieces(words: Sequence[str], *, cased: bool = False) -> Tokenizer:
    """A WordPiece tokenizer with BERT's special tokens and templates; the same pieces every time.

    The vocabulary is spelled out, not trained: the trainer breaks ties at random, and models made from it then differ.
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *words])
    built = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.add_special_tokens(special)
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return built


def own_answers(model: Any, tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
    """Logits [n, C] of a random classifier that gives each of its answers: its bias, if any, makes their mean 0."""
    import torch

    from toolkit.models.families import model_inputs

    model.eval()
    tokenizer.enable_padding(pad_id=model.config.pad_token_id)
    found = tokenizer.encode_batch(texts if pairs is None else list(zip(texts, pairs, strict=True)))
    tokenizer.no_padding()
    batch = {
        "input_ids": torch.tensor([one.ids for one in found]),
        "attention_mask": torch.tensor([one.attention_mask for one in found]),
        "token_type_ids": torch.tensor([one.type_ids for one in found]),
    }
    with torch.no_grad():
        logits = model(**model_inputs(model, batch)).logits
        bias = last_linear(model).bias
        if bias is None:
            return logits.numpy()  # type: ignore[no-any-return]
        bias -= logits.mean(0)
    return (logits - logits.mean(0)).numpy()  # type: ignore[no-any-return]


def last_linear(model: Any) -> Any:
    """The layer that gives a classifier's logits."""
    import torch

    inside = f"{model.base_model_prefix}."  # some classifiers list their encoder behind their head
    modules = (module for name, module in model.named_modules() if not name.startswith(inside))
    return [module for module in modules if isinstance(module, torch.nn.Linear)][-1]


def own_hooks(model: Any) -> list[Any]:
    """The hooks of ours that a model has: transformers 5 leaves some of its own behind."""
    return [
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if hook.__module__.startswith("toolkit.")
    ]


def keep_stored_types(patch: pytest.MonkeyPatch) -> None:
    """Let `from_pretrained` keep the type of stored weights, as transformers 5 does; 4 converts to float32."""
    from transformers import PreTrainedModel

    load = PreTrainedModel.from_pretrained.__func__

    def keep(cls: Any, *args: Any, **options: Any) -> Any:
        return load(cls, *args, **{"torch_dtype": "auto", **options})

    patch.setattr(PreTrainedModel, "from_pretrained", classmethod(keep))
