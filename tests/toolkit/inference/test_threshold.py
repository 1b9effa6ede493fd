"""A threshold keeps its promise over draws of rows; one that is read off a curve breaks it about half of the time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.inference.threshold import candidates, find_threshold, least_share

SHARE, CERTAINTY, DRAWS = 0.95, 0.9, 200


def test_bounds_by_hand() -> None:
    # all of n right: p^n = doubt; one of two right: 1 - (1 - p)^2 = doubt
    assert least_share(149, 149, 0.05) == pytest.approx(0.05 ** (1 / 149))
    assert least_share(1, 2, 0.19) == pytest.approx(0.1)
    assert least_share(0, 9, 0.05) == 0.0


def test_the_lowest_that_holds_is_chosen_and_else_the_nearest_told() -> None:
    confidence, right = np.repeat([0.6, 0.8, 0.95], 500), np.concatenate([np.arange(500) % 2, np.ones(1000)])
    thresholds = np.array([0.6, 0.8, 0.95])  # the starts are the first, the second and the third
    chosen, _ = find_threshold(thresholds, confidence, right, share=0.98, certainty=0.95)
    assert chosen is not None
    assert (chosen.threshold, chosen.coverage, chosen.share) == (0.8, pytest.approx(2 / 3), 1.0)
    assert chosen.bound == pytest.approx((0.05 / 3) ** (1 / 1000))
    none, nearest = find_threshold(thresholds, confidence, right, share=0.9999, certainty=0.95)
    assert none is None
    assert nearest is not None
    assert nearest.threshold == 0.8
    assert find_threshold(np.array([2.0]), confidence, right, share=0.5, certainty=0.5) == (None, None)


def test_no_threshold_is_tested_below_one_that_failed() -> None:
    # the lowest holds by its bound, but every start meets the failing ones first
    confidence = np.repeat([0.6, 0.7, 0.8, 0.9], [3000, 20, 20, 20])
    right = np.concatenate([np.ones(3000), np.zeros(60)])
    grid = np.array([0.6, 0.7, 0.8, 0.9])
    assert find_threshold(grid, confidence, right, share=0.9, certainty=0.95)[0] is None
    starts_there, _ = find_threshold(grid[:3], confidence, right, share=0.9, certainty=0.95)
    assert starts_there is not None
    assert starts_there.threshold == 0.6


def test_the_promise_is_kept_over_draws() -> None:
    """Confidences are drawn and right with a probability of their square root: what each threshold keeps is known."""
    random = np.random.default_rng(0)
    population = random.beta(4, 1, 400_000)
    grid, chance = candidates(population[:2000]), np.sqrt(population)
    true = {float(t): float(chance[population >= t].mean()) for t in grid}
    broken, by_curve, answered = 0, 0, 0
    for _ in range(DRAWS):
        rows = random.integers(0, len(population), 800)
        confidence, right = population[rows], random.random(800) < chance[rows]
        chosen, _ = find_threshold(grid, confidence, right, share=SHARE, certainty=CERTAINTY)
        answered += chosen is not None
        broken += chosen is not None and true[chosen.threshold] < SHARE
        curve = next((float(t) for t in grid if right[confidence >= t].mean() >= SHARE), None)
        by_curve += curve is not None and true[curve] < SHARE
    allowed = 1 - CERTAINTY
    assert answered > DRAWS / 4, "the promise is not kept by saying nothing"
    assert broken / DRAWS <= allowed + 2 * math.sqrt(allowed * CERTAINTY / DRAWS)
    assert by_curve / DRAWS > 2 * allowed
