"""Hidden tokens of the small masked language model."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from benchmarks.distillation.masked_lm import HIDDEN, hide


class Tokenizer(SimpleNamespace):
    def __len__(self) -> int:
        return 1000


def test_tokens_are_hidden_as_for_bert() -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 1000, (200, 102))
    hidden, chosen = hide(ids, Tokenizer(mask_token_id=4))
    assert not chosen[:, [0, -1]].any()
    assert torch.equal(hidden[~chosen], ids[~chosen])
    assert abs(float(chosen[:, 1:-1].float().mean()) - HIDDEN) < 0.01
    masked, unchanged = (hidden[chosen] == 4).float().mean(), (hidden[chosen] == ids[chosen]).float().mean()
    assert abs(float(masked) - 0.8) < 0.03
    assert abs(float(unchanged) - 0.1) < 0.03
