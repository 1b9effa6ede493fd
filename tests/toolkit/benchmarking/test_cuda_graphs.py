"""A graph reads its inputs in one place: every batch gets its own answer; tests/gpu runs it on a GPU."""

from __future__ import annotations

import numpy as np

from toolkit.benchmarking.comparisons import BenchContext, random_batch
from toolkit.benchmarking.cuda_graphs import GraphRuntime


def test_every_batch_gets_its_own_answer_and_keeps_it(context: BenchContext) -> None:
    model = context.models[0]
    plain, graphs = (context.runners.pytorch(model, graphs=choice) for choice in (False, True))
    assert graphs.label == f"{model.architecture}, fp32 CUDA graphs"
    assert isinstance(graphs.runtime, GraphRuntime)
    batches = [random_batch(size, 7, context.vocabulary, seed) for seed, size in enumerate((2, 2, 3, 2))]
    answers = [graphs.program(batch)() for batch in batches]
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer, plain.program(batch)(), atol=1e-5)
    before = answers[0].copy()
    batches[0]["input_ids"][:] = 5  # the graph has its own copy
    graphs.program(batches[1])()
    np.testing.assert_array_equal(answers[0], before)
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
