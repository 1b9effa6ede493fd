"""A training set: encoded inputs with columns of targets or labels, as batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from toolkit.data.tokenization import TokenizedInputs
from toolkit.models.families import TorchBatch


class EncodedDataset:
    """Encoded inputs with columns of targets or labels, as padded tensors by batch.

    Args:
        encoded: n inputs.
        targets: [n, ...], or None.
        columns: more arrays [n, ...], by name.
    """

    def __init__(self, encoded: TokenizedInputs, targets: np.ndarray | None = None, **columns: np.ndarray) -> None:
        self.encoded = encoded
        self.columns = columns if targets is None else {"targets": targets, **columns}

    def __len__(self) -> int:
        return len(self.encoded)

    def collate(self, rows: Sequence[int] | np.ndarray) -> TorchBatch:
        """Return input_ids, attention_mask, token_type_ids [B, L] and each column [B, ...]."""
        arrays = self.encoded.batch(rows) | {name: column[np.asarray(rows)] for name, column in self.columns.items()}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
