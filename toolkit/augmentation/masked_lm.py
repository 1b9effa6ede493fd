"""A masked language model reduced to whole words at masked places, in bf16 where that changes no candidate."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from toolkit.models.families import encoder_layers, model_inputs, position_count, treats_tokens_alone
from toolkit.training.precision import resolve_precision

TIE_TOLERANCE = 1e-4  # of logits: rounding moves them less, so only closer ones can change order with the batch
TRIAL_ROWS, TRIAL_TOKENS = (1, 3, 16), 16  # of random inputs that are computed in batches of these sizes


def restrict_to_words(model: Any, words: Sequence[int], precision: str, device: torch.device) -> tuple[Any, str]:
    """Reduce a model's head to W whole words and move the model, in eval mode, to `device`.

    In bf16 all weights and activations but the head's last product are bf16: that product gives logits, whose order
    counts, in float32. bf16 is taken on CPUs only, and only where a row's logits do not depend on the other rows: most
    GPU kernels add in another order for another batch, and in bf16 that changes candidates.

    Args:
        model: an encoder with its masked-language-model head; changed in place.
        words: ids of vocabulary pieces [W].
        precision: fp32, bf16, or auto: bf16 on CPUs that multiply in it.
        device: to run on.

    Returns:
        The model and its precision, fp32 or bf16.
    """
    head: nn.Linear = model.get_output_embeddings()
    rows = torch.tensor(list(words))
    weight, bias = head.weight.detach()[rows], None if head.bias is None else head.bias.detach()[rows]
    model = model.to(device).eval()
    if device.type == "cpu" and resolve_precision(precision, device, tokens=0.0) == "bf16":
        half = _with_head(copy.deepcopy(model).bfloat16(), weight, bias)
        if is_batch_invariant(half):
            return half, "bf16"
    return _with_head(model, weight.to(device), None if bias is None else bias.to(device)), "fp32"


class WordHead(nn.Linear):
    """Last product of the head, for whole words alone, in float32 for inputs of any type."""

    def forward(self, states: Tensor) -> Tensor:
        """Map states [..., width] to logits [..., W]."""
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
    """Return True if the logits of random inputs differ by less than TIE_TOLERANCE / 10 between batch sizes."""
    length = min(TRIAL_TOKENS, position_count(model.config))
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(int(model.config.vocab_size), (TRIAL_ROWS[-1], length), generator=draw).to(model.device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    places = torch.tensor([[row, row % length] for row in range(len(ids))], device=model.device)
    trials = [
        masked_logits(model, {name: tensor[:rows] for name, tensor in batch.items()}, places[:rows])
        for rows in TRIAL_ROWS
    ]
    largest = trials[-1]
    return all(bool(((logits - largest[: len(logits)]).abs() <= TIE_TOLERANCE / 10).all()) for logits in trials)


def masked_logits(model: Any, batch: dict[str, Tensor], masked: Tensor) -> Tensor:
    """Compute logits [P, V] at P (row, token) places, `masked` [P, 2].

    The head of BERT, RoBERTa and MPNet runs at these places alone; in BERT's family the last layer after its attention
    does too.
    """
    if len(masked) == 1:  # the kernel for a product of a single row rounds differently
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
    """Inside, the last layer of BERT's family drops all other places after its attention: [1, P, width].

    Yields:
        True for BERT's family; False for another, which stays as it is.
    """
    if not treats_tokens_alone(model):
        yield False
        return
    output = encoder_layers(model)[-1].get_submodule("attention.output")
    handle = output.register_forward_pre_hook(lambda _, inputs: tuple(states[rows, tokens][None] for states in inputs))
    try:
        yield True
    finally:
        handle.remove()
