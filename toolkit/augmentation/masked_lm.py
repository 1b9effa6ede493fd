"""A masked language model cut down to what augmentation asks of it: whole words, at masked places, in fast products."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from toolkit.errors import ToolkitError
from toolkit.models.families import FAMILIES, encoder_layers, layer_paths, model_inputs
from toolkit.training.precision import resolve_precision

TIE_TOLERANCE = 1e-4  # of logits: rounding moves them less, so only nearer ones can change places with the batch
TRIAL_ROWS, TRIAL_TOKENS = (1, 3, 16), 16  # of made-up inputs that are computed with fewer and with more of them


def restrict_to_words(model: Any, words: Sequence[int], precision: str, device: torch.device) -> tuple[Any, str]:
    """The model in eval mode on `device`, its head cut to W whole words, and the precision that it computes in.

    In bf16 all weights and activations but the head's last product are bf16: that one gives logits, whose order counts,
    in float32. It is taken on CPUs only, and only where a row's logits do not depend on the rows beside it: other
    kernels (a GPU's, as a rule) add up in another order for another batch, and in bf16 that changes candidates.

    Args:
        model: an encoder with its masked-language-model head; it is changed.
        words: pieces of the vocabulary [W].
        precision: fp32, bf16, or auto: bf16 on CPUs that multiply in it.
    """
    head: nn.Linear = model.get_output_embeddings()
    rows = torch.tensor(list(words))
    kept = head.weight.detach()[rows], None if head.bias is None else head.bias.detach()[rows]
    model = model.to(device).eval()
    if device.type == "cpu" and resolve_precision(precision, device, tokens=0.0) == "bf16":
        half = _with_head(copy.deepcopy(model).bfloat16(), *kept)
        if is_batch_invariant(half):
            return half, "bf16"
    return _with_head(model, *(part if part is None else part.to(device) for part in kept)), "fp32"


class WordHead(nn.Linear):
    """The last product of the head, for whole words only, in float32 whatever comes in."""

    def forward(self, states: Tensor) -> Tensor:
        """States [..., width] to logits [..., W]."""
        return F.linear(states.float(), self.weight, self.bias)


def _with_head(model: Any, weight: Tensor, bias: Tensor | None) -> Any:
    head = WordHead(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    head.weight = nn.Parameter(weight.float(), requires_grad=False)
    if bias is not None:
        head.bias = nn.Parameter(bias.float(), requires_grad=False)
    model.set_output_embeddings(head)
    return model


@torch.inference_mode()
def is_batch_invariant(model: Any) -> bool:
    """Whether inputs have the same logits beside others as beside fewer others, far within TIE."""
    length = min(TRIAL_TOKENS, int(model.config.max_position_embeddings) - 2)  # RoBERTa's positions start at 2
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(int(model.config.vocab_size), (TRIAL_ROWS[-1], length), generator=draw).to(model.device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    places = torch.tensor([[row, row % length] for row in range(len(ids))], device=model.device)
    found = [masked_logits(model, {name: one[:n] for name, one in batch.items()}, places[:n]) for n in TRIAL_ROWS]
    return all(bool(((few - found[-1][: len(few)]).abs() <= TIE_TOLERANCE / 10).all()) for few in found)


def masked_logits(model: Any, batch: dict[str, Tensor], masked: Tensor) -> Tensor:
    """Logits [P, V] at P (row, token) places, `masked` [P, 2]; the head runs on these alone where it can.

    So does all but the attention of the last layer, in BERT's family.
    """
    if len(masked) == 1:  # a product of a single row has a kernel of its own, which rounds otherwise
        return masked_logits(model, batch, masked.repeat(2, 1))[:1]
    rows, tokens = masked.unbind(dim=1)
    inputs = model_inputs(model, batch)
    head = getattr(model, "cls", None) or getattr(model, "lm_head", None)
    if not isinstance(head, nn.Module):
        return model(**inputs).logits[rows, tokens]  # type: ignore[no-any-return]
    with _last_layer_at(model, rows, tokens) as narrowed:  # BERT; RoBERTa, XLM-R, MPNet
        states = model.base_model(**inputs).last_hidden_state
    logits: Tensor = head(states[0] if narrowed else states[rows, tokens])
    return logits


@contextmanager
def _last_layer_at(model: Any, rows: Tensor, tokens: Tensor) -> Iterator[bool]:
    """Within, the last layer keeps only these places once it has attended to all: [1, P, width]; whether it does."""
    try:
        paths = layer_paths(model)
    except ToolkitError:
        paths = None
    if paths is not FAMILIES[0]:
        yield False
        return
    output = encoder_layers(model)[-1].get_submodule("attention.output")
    handle = output.register_forward_pre_hook(lambda _, states: tuple(one[rows, tokens][None] for one in states))
    try:
        yield True
    finally:
        handle.remove()
