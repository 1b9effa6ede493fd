"""Metrics against numbers worked by hand, against scikit-learn and scipy, and against swapped labels."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics as sk

from toolkit.errors import ToolkitError
from toolkit.inference.metrics import (
    by_class,
    calibration_error,
    calibration_error_by_chance,
    confidences,
    evaluate,
    label_order,
    log_loss,
    majority_baseline,
    meanings,
    predictions,
    reliability,
    scores,
    softmax,
)
from toolkit.tasks import Task, get_task

THREE = Task("auto", ("a", "b", "c"), metrics=("accuracy", "f1"))
TAGS = Task("auto", ("x", "y"), kind="multi_label", metrics=("f1", "accuracy"))


def one_hot(classes: list[int], n: int) -> np.ndarray:
    return np.eye(n)[classes]


def test_binary_metrics_by_hand() -> None:
    # predictions 1 1 0 0 1, labels 1 0 0 1 1: TP 2, FP 1, TN 1, FN 1
    logits, labels = one_hot([1, 1, 0, 0, 1], 2), np.array([1, 0, 0, 1, 1])
    mrpc = evaluate(get_task("mrpc"), logits, labels)
    assert mrpc == {"f1": pytest.approx(2 * 2 / (2 * 2 + 1 + 1)), "accuracy": pytest.approx(3 / 5)}
    cola = evaluate(get_task("cola"), logits, labels)
    # (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)) = (2 - 1) / sqrt(3 * 3 * 2 * 2)
    assert cola == {"matthews_correlation": pytest.approx(1 / 6), "accuracy": pytest.approx(0.6)}


def test_three_classes_give_the_mean_f1() -> None:
    # predictions 0 0 1 2, labels 0 1 1 2: F1 of a, b, c is 2/3, 2/3, 1
    metrics = evaluate(THREE, one_hot([0, 0, 1, 2], 3), np.array([0, 1, 1, 2]))
    assert metrics == {"accuracy": 0.75, "f1": pytest.approx((2 / 3 + 2 / 3 + 1) / 3)}


def test_f1_follows_the_task_and_not_the_rows_at_hand() -> None:
    # three classes of which the third happens not to occur: F1 of a is 2/3, of b 4/5; class 1 alone would give 4/5
    metrics = evaluate(THREE, one_hot([0, 1, 1, 1], 3), np.array([0, 0, 1, 1]))
    assert metrics["f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_what_a_metric_is_taken_over_is_said_where_it_is_not_plain() -> None:
    two = Task("t", ("no", "yes"), metrics=("accuracy", "f1"))
    assert meanings(two) == ["f1 is that of yes"]
    assert meanings(replace(two, labels=("a", "b", "c"))) == ["f1 is the mean over the classes"]
    assert meanings(replace(two, kind="multi_label")) == [
        "f1 is the mean over the labels", "accuracy counts each label of each row",
    ]  # fmt: skip
    assert meanings(replace(two, metrics=("accuracy",))) == []


def test_correlations_by_hand() -> None:
    # labels 1 2 3, numbers 1 2 6: covariance 5, variances 2 and 14; ranks agree wholly
    metrics = evaluate(get_task("stsb"), np.array([[1.0], [2.0], [6.0]]), np.array([1.0, 2.0, 3.0]))
    assert metrics == {"spearman": pytest.approx(1.0), "pearson": pytest.approx(5 / np.sqrt(28))}


def test_a_single_class_correlates_with_nothing() -> None:
    logits = one_hot([1, 1, 1], 2)
    assert evaluate(get_task("cola"), logits, np.array([1, 1, 1]))["matthews_correlation"] == 0.0
    assert evaluate(get_task("cola"), logits, np.array([1, 0, 1]))["matthews_correlation"] == 0.0


def test_a_constant_correlates_with_nothing() -> None:
    metrics = evaluate(get_task("stsb"), np.ones((4, 1)), np.array([1.0, 2.0, 3.0, 4.0]))
    assert metrics == {"spearman": 0.0, "pearson": 0.0}


def test_multi_label_counts_each_decision() -> None:
    logits = np.array([[2.0, -1.0], [-3.0, 0.5], [1.0, 1.0]])  # decisions 10 01 11
    labels = np.array([[1, 0], [0, 0], [1, 1]])
    # x: TP 2, F1 1; y: TP 1, FP 1, F1 2/3; five of six decisions right
    assert evaluate(TAGS, logits, labels) == {"f1": pytest.approx((1 + 2 / 3) / 2), "accuracy": pytest.approx(5 / 6)}


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(2, 60))
def test_agrees_with_scikit_learn_and_scipy(seed: int, classes: int, n: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(n, classes)), random.integers(0, classes, n)
    names = ("accuracy", "f1", "matthews_correlation")
    metrics = evaluate(Task("auto", tuple(map(str, range(classes))), metrics=names), logits, labels)
    guess = logits.argmax(1)
    average = "binary" if classes == 2 else "macro"
    assert metrics["accuracy"] == pytest.approx(sk.accuracy_score(labels, guess))
    assert metrics["f1"] == pytest.approx(sk.f1_score(labels, guess, average=average, zero_division=0.0))
    if len(set(labels) | set(guess)) > 1:  # scikit-learn warns about a single class
        assert metrics["matthews_correlation"] == pytest.approx(sk.matthews_corrcoef(labels, guess))
    numbers = random.normal(size=n)
    metrics = evaluate(get_task("stsb"), logits[:, :1], numbers)
    assert metrics["pearson"] == pytest.approx(np.corrcoef(logits[:, 0], numbers)[0, 1])
    assert metrics["spearman"] == pytest.approx(stats.spearmanr(logits[:, 0], numbers).statistic)


def test_logits_that_are_not_finite_are_refused() -> None:
    logits = np.array([[0.0, 1.0], [np.nan, 0.0], [np.inf, np.nan]])
    with pytest.raises(ToolkitError, match="2 of 3 rows have logits that are not finite"):
        evaluate(get_task("sst2"), logits, np.array([0, 1, 1]))


def test_scores_by_kind() -> None:
    logits = np.array([[0.0, np.log(3.0)]], dtype=np.float32)
    np.testing.assert_allclose(scores(logits, "classification"), [[0.25, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(scores(logits, "multi_label"), [[0.5, 0.75]], rtol=1e-6)
    np.testing.assert_array_equal(scores(logits, "regression"), logits)


def test_scores_survive_extreme_logits() -> None:
    logits = np.array([[-1e4, 1e4]], dtype=np.float32)
    np.testing.assert_array_equal(scores(logits, "classification"), [[0.0, 1.0]])
    np.testing.assert_array_equal(scores(logits, "multi_label"), [[0.0, 1.0]])


@given(st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=8))
def test_probabilities_match_scipy(row: list[float]) -> None:
    logits = np.array([row], dtype=np.float32)
    np.testing.assert_allclose(softmax(logits), special.softmax(logits.astype(np.float64), axis=1), atol=1e-12)
    np.testing.assert_allclose(scores(logits, "multi_label"), special.expit(logits.astype(np.float64)), atol=1e-12)


def test_decisions_by_kind() -> None:
    logits = np.array([[0.2, 0.1], [-1.0, 3.0]])
    assert predictions(logits, "classification").tolist() == [0, 1]
    assert predictions(logits, "multi_label").tolist() == [[1, 1], [0, 1]]
    assert predictions(logits[:, :1], "regression").tolist() == [0.2, -1.0]


def test_majority_baselines() -> None:
    assert majority_baseline(get_task("sst2"), np.array([1, 1, 1, 0])) == 0.75
    assert majority_baseline(get_task("mrpc"), np.array([1, 1, 0])) == pytest.approx(0.8)  # F1: P 2/3, R 1
    assert majority_baseline(get_task("cola"), np.array([1, 1, 0])) == 0.0
    assert majority_baseline(get_task("stsb"), np.array([1.0, 2.0])) == 0.0
    tags = replace(TAGS, metrics=("accuracy",))
    assert majority_baseline(tags, np.array([[1, 0], [1, 0], [0, 1]])) == pytest.approx(4 / 6)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_swapped_label_order_is_found(order: tuple[int, ...]) -> None:
    random = np.random.default_rng(7)
    labels = random.integers(0, 3, 300)
    right = np.where(random.random(300) < 0.8, labels, random.integers(0, 3, 300))  # about 87 % right
    outputs = np.argsort(order)[right]  # output c behaves like class order[c]
    fit = label_order(one_hot(outputs.tolist(), 3), labels)
    assert fit.order == order
    assert fit.best_accuracy == pytest.approx(np.mean(right == labels))
    assert fit.accuracy == pytest.approx(np.mean(outputs == labels))
    assert fit.permuted == (order != (0, 1, 2))


@pytest.mark.parametrize(("classes", "n"), [(2, 40), (2, 100), (3, 60), (3, 2000), (20, 300)])
def test_a_weak_teacher_is_not_mistaken_for_a_swapped_one(classes: int, n: int) -> None:
    random = np.random.default_rng(3)
    fits = [label_order(random.normal(size=(n, classes)), random.integers(0, classes, n)) for _ in range(100)]
    assert not any(fit.permuted for fit in fits)
    if n <= 100:
        assert any(fit.best_accuracy > fit.accuracy + 0.1 for fit in fits), "accuracies alone would say so"


def test_a_teacher_that_always_says_the_rare_class_is_weak_and_not_swapped() -> None:
    random = np.random.default_rng(5)
    labels, outputs = (random.random(500) < 0.1).astype(int), (random.random(500) < 0.9).astype(int)
    fit = label_order(one_hot(outputs.tolist(), 2), labels)
    assert (fit.order, fit.permuted) == ((1, 0), False)
    assert fit.best_accuracy > 0.75
    swapped = label_order(one_hot((1 - labels).tolist(), 2), labels)
    assert (swapped.order, swapped.permuted) == ((1, 0), True)


def test_a_metric_of_no_known_name_is_refused() -> None:
    with pytest.raises(ToolkitError, match="no metric weird"):
        evaluate(Task("auto", ("a", "b"), metrics=("accuracy", "weird")), np.zeros((2, 2)), np.zeros(2, dtype=int))


def test_calibration_error_by_hand() -> None:
    # bins are 1/15 wide: 0.61 and 0.65 share one, of which half is right; 0.95 and 1.0 share the last, all right
    stated, true = np.array([0.61, 0.65, 0.95, 1.0, 0.0]), np.array([True, False, True, True, False])
    bins = reliability(stated, true)
    assert [(own.rows, own.accuracy) for own in bins] == [(1, 0.0), (2, 0.5), (2, 1.0)]
    assert [own.confidence for own in bins] == pytest.approx([0.0, 0.63, 0.975])
    assert calibration_error(bins) == pytest.approx((2 * 0.13 + 2 * 0.025) / 5)


def test_confidences_are_of_the_best_label_or_of_each() -> None:
    stated, true = confidences(np.log([[1.0, 3.0], [4.0, 1.0]]), np.array([1, 1]), "classification")
    assert stated == pytest.approx([0.75, 0.8])
    assert true.tolist() == [True, False]
    stated, true = confidences(np.log([[3.0, 0.25]]), np.array([[1, 1]]), "multi_label")
    assert stated == pytest.approx([0.75, 0.2])
    assert true.tolist() == [True, True]


def test_log_loss_is_scikit_learns_and_survives_large_logits() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 3)), random.integers(0, 3, 50)
    assert log_loss(logits, labels, "classification") == pytest.approx(sk.log_loss(labels, softmax(logits)))
    many = random.integers(0, 2, (50, 3))
    by_label = [sk.log_loss(many[:, c], special.expit(logits[:, c]), labels=[0, 1]) for c in range(3)]
    assert log_loss(logits, many, "multi_label") == pytest.approx(np.mean(by_label))
    assert log_loss(np.array([[2000.0, -2000.0]]), np.array([1]), "classification") == 4000.0
    assert log_loss(np.array([[2000.0]]), np.array([[0]]), "multi_label") == 2000.0


def test_the_error_by_chance_is_what_true_probabilities_show() -> None:
    random = np.random.default_rng(0)
    stated = random.beta(5, 2, 1000)
    draws = [calibration_error(reliability(stated, random.random(1000) < stated)) for _ in range(300)]
    assert calibration_error_by_chance(stated) == pytest.approx(np.mean(draws), rel=0.05)


def test_scores_by_class_by_hand() -> None:
    task = Task("auto", ("a", "b", "never"))
    # two a, of which one is called b; two b, both called b
    scores = by_class(task, one_hot([0, 1, 1, 1], 3), np.array([0, 0, 1, 1]))
    assert scores == {
        "a": {"rows": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)},
        "b": {"rows": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8)},
        "never": {"rows": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0},
    }
    assert [type(score["rows"]) for score in scores.values()] == [int] * 3
    multi = replace(task, kind="multi_label", labels=("x", "y"))
    both = by_class(multi, np.array([[1.0, 1.0], [-1.0, 1.0]]), np.array([[1, 0], [1, 1]]))
    assert both["x"] == {"rows": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert both["y"] == {"rows": 1, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)}
    assert by_class(get_task("stsb"), np.ones((2, 1)), np.ones(2)) == {}
