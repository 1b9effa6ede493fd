"""A threshold keeps its promise over draws of rows; one that is read off a curve breaks it about half of the time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.inference.threshold import (
    candidates,
    fewest_answers,
    find_label_thresholds,
    find_threshold,
    label_candidates,
    least_share,
)

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


def test_labels_share_the_doubt_and_one_with_too_few_answers_has_no_threshold() -> None:
    # 0.9^n <= 0.05 / 3 labels / 3 starts from n = 50 on: ln(0.005556) / ln(0.9) = 49.3
    assert fewest_answers(3, share=0.9, certainty=0.95) == 50
    answers = np.repeat([0, 1, 2], [50, 49, 400])
    confidence, right = np.full(499, 0.8), np.concatenate([np.ones(99), np.arange(400) % 5 > 0])
    grids = label_candidates(answers, confidence, 3)
    chosen = find_label_thresholds(grids, answers, confidence, right, share=0.9, certainty=0.95)
    assert [own is not None for own in chosen] == [True, False, False], "the last one is right in 80 % of cases"
    assert chosen[0] is not None
    assert (chosen[0].threshold, chosen[0].coverage) == (0.8, 1.0)
    assert chosen[0].bound == pytest.approx((0.05 / 9) ** (1 / 50))
    alone = find_threshold(grids[1], confidence[answers == 1], right[answers == 1], share=0.9, certainty=0.95)
    assert alone[0] is not None, "for one label 39 answers are enough"
    assert find_label_thresholds([*grids, np.empty(0)], answers, confidence, right, share=0.5, certainty=0.9)[3] is None


def test_all_promises_of_labels_are_kept_at_once_over_draws() -> None:
    """Labels of different difficulty: a single threshold, for all answers, breaks its promise for the hardest."""
    random = np.random.default_rng(1)
    answers = random.integers(0, 4, 100_000)
    population = random.beta(4, 1, 100_000)
    chance = population ** np.array([0.2, 0.5, 0.5, 1.5])[answers]
    grids = label_candidates(answers[:4000], population[:4000], 4)
    whole, draws = candidates(population[:4000]), DRAWS // 4
    broken, alone_broken, answered = 0, 0, 0
    kept = {
        (c, float(t)): float(chance[(answers == c) & (population >= t)].mean())
        for c in range(4) for t in (*grids[c], *whole)
    }  # fmt: skip
    for _ in range(draws):
        rows = random.integers(0, len(population), 2000)
        right = random.random(2000) < chance[rows]
        drawn = (answers[rows], population[rows], right)
        chosen = find_label_thresholds(grids, *drawn, share=SHARE, certainty=CERTAINTY)
        answered += sum(own is not None for own in chosen)
        broken += any(own is not None and kept[c, own.threshold] < SHARE for c, own in enumerate(chosen))
        single, _ = find_threshold(whole, *drawn[1:], share=SHARE, certainty=CERTAINTY)
        alone_broken += single is not None and any(kept[c, single.threshold] < SHARE for c in range(4))
    allowed = 1 - CERTAINTY
    assert answered > draws, "the promise is not kept by saying nothing"
    assert broken / draws <= allowed + 2 * math.sqrt(allowed * CERTAINTY / draws)
    assert alone_broken / draws > 0.5
