"""A small classifier of every family, and padded batches to run it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.onnx_export import LayerCount
from toolkit.inference.runtimes import Runtime

SMALL = {
    "vocab_size": 160, "num_hidden_layers": 2, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4,
    "max_position_embeddings": 66, "initializer_range": 0.2,
}  # fmt: skip
FAMILIES = {
    "Bert": (SMALL, LayerCount(2 * 6 + 2, 3)),
    "DistilBert": (
        {"vocab_size": 160, "n_layers": 2, "dim": 24, "hidden_dim": 48, "n_heads": 4, "max_position_embeddings": 66,
         "initializer_range": 0.2},
        LayerCount(2 * 6 + 2, 2),
    ),
    "Roberta": ({**SMALL, "type_vocab_size": 1}, LayerCount(2 * 6 + 2, 3)),
    "Electra": ({**SMALL, "embedding_size": 16}, LayerCount(2 * 6 + 2 + 1, 3)),
    "MPNet": (SMALL, LayerCount(2 * 6 + 2, 2)),
}  # fmt: skip


def save_family(family: str, folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family][0])
    getattr(transformers, f"{family}ForSequenceClassification")(config).eval().save_pretrained(folder)
    return folder


def padded_batch(rows: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    batch = {
        "input_ids": random.integers(5, 95, (rows, length)),
        "attention_mask": np.ones((rows, length), dtype=np.int64),
        "token_type_ids": np.zeros((rows, length), dtype=np.int64),
    }
    for row in range(1, rows):  # every row but the first has padding, of its own amount
        real = int(random.integers(2, length))
        batch["attention_mask"][row, real:] = 0
        batch["input_ids"][row, real:] = 0
    return batch


def neighbour_difference(runtime: Runtime, seed: int, neighbours: int, padding: int) -> float:
    """How much a text's logits change when others stand beside it and padding behind it."""
    random = np.random.default_rng(seed)
    alone = padded_batch(1, int(random.integers(2, 30)), seed)
    length = alone["input_ids"].shape[1]
    together = padded_batch(neighbours + 1, length + padding, seed + 1)
    for name, values in alone.items():
        together[name][0] = 0
        together[name][0, :length] = values[0]
    return float(np.abs(runtime.run(alone)[0] - runtime.run(together)[0]).max())
