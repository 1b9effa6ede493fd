"""A yardstick for a classifier: logistic regression on the words of the same rows, which takes seconds."""

from __future__ import annotations

import warnings

import numpy as np

from toolkit.data.datasets import Split
from toolkit.inference.metrics import evaluate, majority_baseline
from toolkit.tasks import Task

NAME, SAME = "tf-idf and logistic regression", "always the same answer"
ROWS, CHARACTERS = 20_000, 2_000  # of train at most, and of each text: seconds whatever the data
FEATURES, ITERATIONS, INVERSE_PENALTY = 20_000, 100, 10.0
SEED = 0


def yardsticks(task: Task, train: Split, scored: Split) -> str:
    """Write the scores, in percent, that a classifier has to beat: of words, and of always the same answer."""
    scores = {NAME: word_score(task, train, scored), SAME: majority_baseline(task, scored.labels)}
    return "; ".join(f"{name}: {100 * score:.2f}" for name, score in scores.items() if score is not None)


def word_score(task: Task, train: Split, scored: Split) -> float | None:
    """Score logistic regression on tf-idf of words and pairs of words, by the task's first metric.

    Args:
        task: of single classes; None is given for any other.
        train: at most ROWS random rows are learnt from.
        scored: the rows that the model is scored on.
    """
    learnt = train.subsample(ROWS, SEED)
    if task.kind != "classification" or len(np.unique(learnt.labels)) < 2:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=FEATURES)
    classifier = LogisticRegression(C=INVERSE_PENALTY, max_iter=ITERATIONS)
    try:
        features = vectorizer.fit_transform(_texts(learnt))
    except ValueError:  # no text has a word
        return None
    with warnings.catch_warnings():
        # a yardstick need not be the best of its kind, and classes may be many
        warnings.simplefilter("ignore", UserWarning)
        classifier.fit(features, learnt.labels)
    probabilities = np.zeros((len(scored), len(task.labels)))
    probabilities[:, classifier.classes_] = classifier.predict_proba(vectorizer.transform(_texts(scored)))
    return evaluate(task, probabilities, scored.labels)[task.metric]


def _texts(split: Split) -> list[str]:
    seconds = split.pairs or [""] * len(split)
    return [f"{text[:CHARACTERS]} {second[:CHARACTERS]}" for text, second in zip(split.texts, seconds, strict=True)]
