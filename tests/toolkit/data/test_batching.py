"""Batches that hold every row once, in order of length or shuffled, with little padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data import batching
from toolkit.data.batching import SORT_POOL, shuffled_batches, sorted_batches

lengths_ = st.lists(st.integers(1, 128), max_size=400).map(lambda values: np.array(values, dtype=np.int64))


@given(lengths_, st.integers(1, 40))
def test_sorted_batches_hold_every_row_once_longest_first(lengths: np.ndarray, batch_size: int) -> None:
    batches = list(sorted_batches(lengths, batch_size))
    flat = np.concatenate([np.empty(0, dtype=np.int64), *batches])
    assert sorted(flat.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[flat]) <= 0).all()
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(lengths_, st.integers(1, 40), st.integers(1, 600))
def test_sorted_batches_are_as_large_as_both_bounds_let_them(lengths: np.ndarray, rows: int, tokens: int) -> None:
    batches = list(sorted_batches(lengths, rows, tokens))
    assert [row for batch in batches for row in batch] == [row for batch in sorted_batches(lengths, 1) for row in batch]
    for i, batch in enumerate(batches):
        longest = int(lengths[batch[0]])
        assert len(batch) == 1 or (len(batch) <= rows and len(batch) * longest <= tokens)
        assert i == len(batches) - 1 or len(batch) == rows or (len(batch) + 1) * longest > tokens


@given(lengths_, st.integers(1, 12), st.integers(0, 2**31), st.integers(0, 50))
def test_shuffled_batches_hold_every_row_once(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> None:
    batches = list(shuffled_batches(lengths, batch_size, seed, epoch))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    again = shuffled_batches(lengths, batch_size, seed, epoch)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]


def test_many_rows_are_dealt_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "SHUFFLED_TOGETHER", 3)
    lengths = np.random.default_rng(0).integers(3, 60, 100)
    batches = [batch.tolist() for batch in shuffled_batches(lengths, 8, seed=1, epoch=0)]
    assert sorted(row for batch in batches for row in batch) == list(range(100))
    assert [len(batch) for batch in batches].count(8) == 12
    runs = [{row // 24 for row in batch} for batch in batches]
    assert all(len(run) == 1 for run in runs)  # a batch comes from one run of three batches
    orders = {
        tuple(int(batch[0]) // 24 for batch in shuffled_batches(lengths, 8, seed=1, epoch=epoch)) for epoch in range(5)
    }
    assert len(orders) > 2  # and the runs come in random order


def test_another_epoch_or_seed_shuffles_anew() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 500)
    order = {
        key: tuple(row for batch in shuffled_batches(lengths, 16, *key) for row in batch.tolist())
        for key in [(1, 0), (1, 1), (2, 0)]
    }
    assert len(set(order.values())) == 3


def test_like_lengths_together_waste_less_padding_and_still_mix() -> None:
    lengths = np.random.default_rng(0).integers(3, 129, 4000)

    def padded(batches: list[np.ndarray]) -> int:
        return sum(len(batch) * int(lengths[batch].max()) for batch in batches)

    plain = np.split(np.random.default_rng(1).permutation(4000), 125)
    bucketed = list(shuffled_batches(lengths, 32, seed=1, epoch=0))
    waste = padded(bucketed) / lengths.sum() - 1
    assert waste < 0.05
    assert padded(plain) / lengths.sum() - 1 > 10 * waste
    means = [lengths[batch].mean() for batch in bucketed]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3  # long and short batches come in no order
    assert len({int(row) // (32 * SORT_POOL) for row in bucketed[0]}) > 1  # a batch draws from the whole file
