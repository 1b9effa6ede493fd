"""Statistics of a teacher's layers are what the model's own outputs say, padding left out, in one pass."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.models import own_hooks
from tests.toolkit.distillation.initialization.test_projection import SIZES, batches, random_model
from toolkit.distillation.initialization.statistics import bytes_of_token, collect_statistics


def test_states_are_the_models_own_at_real_tokens() -> None:
    teacher, sample = bert(), batches(3)
    embedded, (second, fourth), logits = collect(teacher, (2, 4), sample)
    hidden, answers, passes = [], [], []
    with torch.no_grad():
        for batch in sample:
            output = teacher(**batch, output_hidden_states=True)
            mask = batch["attention_mask"].bool()
            hidden.append([level[mask] for level in output.hidden_states])
            answers.append(output.logits)
            passes.append(int(mask.sum()))
    levels = [torch.cat(parts) for parts in zip(*hidden, strict=True)]
    assert embedded.shape == (sum(passes), 24)
    torch.testing.assert_close(embedded, levels[0])
    torch.testing.assert_close(second.input, levels[1])
    torch.testing.assert_close(second.output, levels[2])
    torch.testing.assert_close(fourth.output, levels[4])
    torch.testing.assert_close(logits, torch.cat(answers))
    torch.testing.assert_close(fourth.input, levels[3])
    assert (second.output - levels[3]).abs().max() > 1e-3  # another layer's would not have passed


def test_sums_stand_before_their_norms_and_energy_is_by_batch() -> None:
    teacher, sample = bert(), batches(3)
    _, (layer,), _ = collect(teacher, (3,), sample)
    module = teacher.bert.encoder.layer[2]
    with torch.no_grad():
        torch.testing.assert_close(module.attention.output.LayerNorm(layer.attention_sum), layer.middle())
        torch.testing.assert_close(module.output.LayerNorm(layer.output_sum), layer.output)
        neurons = module.intermediate(layer.middle()).square()
    counts = [int(batch["attention_mask"].sum()) for batch in sample]
    expected = torch.stack([part.sum(0) for part in neurons.split(counts)])
    torch.testing.assert_close(layer.energy, expected, rtol=1e-4, atol=1e-4)


def test_neighbours_share_their_states_and_the_bytes_are_counted() -> None:
    mapping = (1, 2, 4)
    embedded, layers, _ = collect(bert(), mapping, batches(2))
    first, second, fourth = layers
    assert first.input is embedded
    assert second.input is first.output
    assert fourth.input is not second.output
    names = ("input", "attention_sum", "output_sum", "output")
    states = {id(state): state for state in (embedded, *(getattr(layer, name) for layer in layers for name in names))}
    kept = sum(state.numel() * state.element_size() for state in states.values())
    assert kept == len(embedded) * bytes_of_token(mapping, embedded.shape[1])


def test_no_head_gives_no_logits_and_no_hook_stays() -> None:
    teacher = bert().bert
    embedded, _, logits = collect(teacher, (1,), batches(1))
    assert len(embedded) > 0
    assert len(logits) == 0
    assert own_hooks(teacher) == []


def bert() -> Any:
    import transformers

    return random_model(transformers.BertConfig(**SIZES))


def collect(teacher: Any, mapping: tuple[int, ...], sample: list[dict[str, torch.Tensor]]) -> Any:
    with torch.no_grad():
        return collect_statistics(teacher, mapping, sample)
