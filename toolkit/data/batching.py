"""Batches of inputs of like length, sorted for inference or shuffled for training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SHUFFLED_TOGETHER = 20_000  # batches of a run: 640,000 rows at 32 a batch
SORT_POOL = 50  # batches sorted together by length: wide enough to waste little padding, narrow enough to mix


def sorted_batches(lengths: np.ndarray, batch_size: int, most_tokens: int | None = None) -> Iterator[np.ndarray]:
    """Yield row numbers in batches of like length, longest first, so that memory peaks at the start.

    Args:
        lengths: tokens of each row, [n].
        batch_size: the most rows of a batch.
        most_tokens: of a batch, padding included; a single longer row is a batch of its own. None sets no bound.
    """
    order, start = np.argsort(-lengths, kind="stable"), 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        rows = batch_size if most_tokens is None else min(batch_size, max(1, most_tokens // longest))
        yield order[start : start + rows]
        start += rows


def shuffled_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yield every row once, in random batches of like length; equal seeds and epochs give equal batches.

    Rows are shuffled, cut into pools of SORT_POOL batches, sorted by length inside a pool and cut into batches. The
    batches of a pool come in random order. The last batch may be smaller; no row is dropped. Rows beyond
    SHUFFLED_TOGETHER batches form further runs, which come in random order: memory does not grow with the rows.

    Args:
        lengths: tokens of each row, [n].
        batch_size: rows of a batch.
        seed, epoch: decide the order.
    """
    random = np.random.default_rng([seed, epoch])
    run = batch_size * SHUFFLED_TOGETHER
    whole, rest = divmod(len(lengths), run)
    starts = random.permutation(whole) * run if whole else np.arange(0)
    for start in [*starts.tolist(), *([whole * run] if rest else [])]:
        order = start + random.permutation(min(run, len(lengths) - start))
        batches: list[np.ndarray] = []
        for at in range(0, len(order), batch_size * SORT_POOL):
            pool = order[at : at + batch_size * SORT_POOL]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        yield from (batches[i] for i in random.permutation(len(batches)))
