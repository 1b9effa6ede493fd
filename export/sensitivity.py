"""How a classifier's answers move with its word embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from toolkit.text import Encoded

TEXTS = 128
BATCH_SIZE = 16


def embedding_gradients(model: Any, encoded: Encoded, rows: np.ndarray) -> np.ndarray:
    """Gradients of each logit by the word embedding at each real token, [T C, K], over the first TEXTS rows.

    Args:
        model: a PyTorch classifier.
        encoded: texts.
        rows: numbers of texts in them, in random order.
    """
    import torch

    from toolkit.trace import model_inputs

    caught: list[torch.Tensor] = []

    def catch(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        caught.append(output.detach().requires_grad_())
        return caught[-1]

    hook = model.get_input_embeddings().register_forward_hook(catch)
    found = []
    try:
        for start in range(0, min(TEXTS, len(rows)), BATCH_SIZE):
            caught.clear()
            batch = {k: torch.from_numpy(v) for k, v in encoded.batch(rows[start : start + BATCH_SIZE]).items()}
            logits = model(**model_inputs(model, batch)).logits
            real = batch["attention_mask"].bool()
            for column in logits.sum(dim=0):
                (gradient,) = torch.autograd.grad(column, caught[-1], retain_graph=True)
                found.append(gradient[real].numpy())
    finally:
        hook.remove()
    return np.concatenate(found)
