"""A check that the recorded activations of a teacher are its own, before a student learns from them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.distillation.activations import ActivationRecorder, Activations
from toolkit.errors import ToolkitError
from toolkit.models.families import depth, model_inputs, position_offset
from toolkit.models.trial import trial_batch

LENGTHS = (8, 5)  # tokens of the inputs
RELATIVE, ABSOLUTE = 1e-3, 1e-5  # tolerances of probabilities and states; scores of a wrong kind are off by far more


def check_recording(teacher: Any, name: str) -> None:
    """Check that the layers of a teacher can be learnt from.

    Raises:
        ToolkitError: see `recording_problem`.
    """
    if problem := recording_problem(teacher):
        raise ToolkitError(f"the layers of {name} cannot be learnt from: {problem}", fix="another --teacher")


@torch.no_grad()
def recording_problem(model: Any) -> str | None:
    """Compare the recorded activations of all layers with the outputs of the model itself, on a few inputs.

    Softmax of the recorded scores must equal the attention probabilities that the model gives with
    `output_attentions`, recorded states its hidden states, and its positions those that `families` counts. Families
    are known by their names and modules; this finds those that compute something else under the same names.

    Returns:
        The difference in words; None where there is none.
    """
    base = model.base_model
    try:
        recorder = ActivationRecorder(base, range(depth(model) + 1))
    except ToolkitError:
        return "its layers have other parts than BERT's"
    table = getattr(base.embeddings, "position_embeddings", None) if hasattr(base, "embeddings") else None
    if not isinstance(table, nn.Embedding):
        recorder.close()
        return "it has no table of positions"
    batch = {name: tensor.to(model.device) for name, tensor in trial_batch(model.config, *LENGTHS).items()}
    inputs = model_inputs(model, batch)
    positions: list[Tensor] = []
    watch = table.register_forward_hook(lambda _module, args, _output: positions.append(args[0]))
    with closing(recorder):
        states = base(**inputs, output_hidden_states=True).hidden_states
    watch.remove()
    if not positions:
        return "it looks up no positions"
    eager = copy.deepcopy(base)
    if hasattr(eager, "set_attn_implementation"):
        eager.set_attn_implementation("eager")  # fused attention gives no probabilities; old releases fall back
    own = OwnOutputs(positions[0], states, eager(**inputs, output_attentions=True).attentions)
    return next(_problems(model.config, recorder.activations, own, batch["attention_mask"].bool()), None)


@dataclass(frozen=True)
class OwnOutputs:
    """Outputs of a model itself: the positions that it looks up, its hidden states and attention probabilities."""

    positions: Tensor
    states: Sequence[Tensor]
    probabilities: Sequence[Tensor]


def _problems(config: Any, recorded: Activations, own: OwnOutputs, mask: Tensor) -> Iterator[str]:
    """Yield each difference between recorded activations and a model's own outputs; `mask` [B, L] is True at tokens."""
    first, expected = int(own.positions.flatten()[0]), position_offset(config.model_type, config.pad_token_id)
    if first != expected:
        yield f"its positions begin at {first}, not at {expected}"
    pairs = (mask[:, :, None] & mask[:, None, :])[:, None]  # B, 1, L, L
    for layer, states in enumerate(own.states):
        if (error := _error(recorded.hidden[layer], states, mask[:, :, None])) is not None:
            yield f"the states recorded of layer {layer} differ from its own by {error}"
    for layer, probabilities in enumerate(own.probabilities, start=1):
        scores = recorded.attention_scores(layer).masked_fill(~mask[:, None, None, :], -torch.inf)
        if (error := _error(scores.softmax(-1), probabilities, pairs)) is not None:
            yield f"the attention recorded of layer {layer} differs from its own by {error}"


def _error(recorded: Tensor, own: Tensor, real: Tensor) -> str | None:
    """Describe the largest difference at real tokens; None where it is rounding."""
    if recorded.shape != own.shape:
        return f"its shape, {tuple(recorded.shape)} and {tuple(own.shape)}"
    zero = torch.zeros((), dtype=own.dtype, device=own.device)
    recorded, own = torch.where(real, recorded, zero), torch.where(real, own, zero)
    if torch.allclose(recorded, own, rtol=RELATIVE, atol=ABSOLUTE):
        return None
    return f"up to {float((recorded - own).abs().max()):.2g}"
