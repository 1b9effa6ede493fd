"""A trial of a classifier before it is trained or learnt from: padded batches must not change its answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toolkit.errors import ToolkitError, reason_of
from toolkit.models.families import TorchBatch, model_inputs

LENGTHS = (5, 9)  # tokens of the trial's inputs
TOLERANCE = 1e-3  # of logits, beside their size; a padding that counts moves them by far more
EXPECTED = "an encoder with a classification head that takes an attention mask, such as BERT, RoBERTa or ALBERT"


def trial_batch(config: Any, *lengths: int) -> TorchBatch:
    """Draw inputs of random pieces, the same every time, as a padded batch [len(lengths), max(lengths)]."""
    draw, pad, longest = torch.Generator().manual_seed(0), config.pad_token_id or 0, max(lengths)
    ids = torch.randint(int(config.vocab_size) - 1, (len(lengths), longest), generator=draw)
    ids += (ids >= pad).long()  # every piece but the padding, by which some families count positions
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return {
        "input_ids": ids.where(mask.bool(), pad), "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)
    }  # fmt: skip


@torch.no_grad()
def check_classifier(model: Any, name: str) -> None:
    """Check that a classifier gives an input the same logits alone and padded beside a longer one.

    Families that read padding, or need other inputs than tokens and a mask, could neither be trained on batches nor
    served. The model is left in eval mode.

    Raises:
        ToolkitError: it is no encoder, fails on a batch, or answers by its padding.
    """
    kind, model = type(model).__name__, model.eval()
    if getattr(model.config, "is_encoder_decoder", False):
        raise ToolkitError(f"{name} is an encoder with a decoder ({kind})", expected=EXPECTED)
    batch = trial_batch(model.config, *LENGTHS)
    alone = {tensor_name: tensor[:1, : LENGTHS[0]] for tensor_name, tensor in batch.items()}
    try:
        padded, single = (_logits(model, inputs)[0] for inputs in (batch, alone))
    except Exception as error:  # each family raises its own
        raise ToolkitError(f"{name} ({kind}) fails on a batch: {reason_of(error)}", expected=EXPECTED) from error
    difference = float((padded - single).abs().max())
    if not difference <= TOLERANCE * (1 + float(single.abs().max())):
        raise ToolkitError(
            f"{name} ({kind}) answers by its padding: an input's logits change by {difference:.2g} beside a longer one",
            expected=EXPECTED,
        )


def _logits(model: Any, batch: TorchBatch) -> Tensor:
    logits: Tensor = model(**model_inputs(model, batch)).logits
    return logits
