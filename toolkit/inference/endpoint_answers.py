"""What classifiers behind a URL are asked and answer: /predict of text-embeddings-inference, /classify of vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.errors import ToolkitError

KEY = "TOOLKIT_API_KEY"  # variable of the key, sent as a bearer token
PREDICT, CLASSIFY = "/predict", "/classify"
LEAST = 1e-7  # the smallest probability whose log is taken
Parts = tuple[str, str | None]  # a text and, for a pair, the second one
# what reading an answer of another form raises
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


def key_header(key: str | None) -> dict[str, str]:
    """Give the header that brings a key, without the line end that a file of it has; nothing without a key.

    Raises:
        ToolkitError: a key that no header could carry; the message does not show it, as a client's log would.
    """
    key = (key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise ToolkitError(f"{KEY} holds a character that no header can carry", expected="a key of ASCII in one line")
    return {"Authorization": f"Bearer {key}"} if key else {}


def predict_body(inputs: Sequence[Parts], *, raw: bool) -> dict[str, object]:
    """Ask PREDICT for the logits of n inputs (`raw`), or for their probabilities."""
    texts = [[text] if pair is None else [text, pair] for text, pair in inputs]
    return {"inputs": texts, "raw_scores": raw, "truncate": True}


def classify_body(inputs: Sequence[Parts], model: str) -> dict[str, object]:
    """Ask CLASSIFY about n inputs, a pair as two lines; an empty `model` is left out."""
    texts = [text if pair is None else f"{text}\n{pair}" for text, pair in inputs]
    return ({"model": model} if model else {}) | {"input": texts}


def predicted_labels(answer: Any) -> list[str]:
    """Give the labels in an answer of PREDICT, best first.

    Raises:
        MALFORMED: an answer of another form.
    """
    return [str(entry["label"]) for entry in answer[0]]


def predicted_scores(answer: Any, labels: Sequence[str]) -> np.ndarray:
    """Give the scores [n, C] float32 in an answer of PREDICT, in the order of `labels`.

    Raises:
        MALFORMED: an answer of another form, or without one of the labels.
    """
    rows = [{str(entry["label"]): float(entry["score"]) for entry in ranked} for ranked in answer]
    return np.array([[row[label] for label in labels] for row in rows], dtype=np.float32)


def classified_probabilities(answer: Any) -> tuple[np.ndarray, list[Any]]:
    """Give the probabilities [n, C] float32 in an answer of CLASSIFY, in the order of its outputs, and n best labels.

    Raises:
        MALFORMED: an answer of another form.
    """
    entries = sorted(answer["data"], key=lambda entry: entry["index"])
    probabilities = np.array([[float(value) for value in entry["probs"]] for entry in entries], dtype=np.float32)
    return probabilities, [entry.get("label") for entry in entries]


def logs(probabilities: np.ndarray) -> np.ndarray:
    """Take the logs of probabilities, whose softmax gives them again."""
    return np.asarray(np.log(np.clip(probabilities, LEAST, 1)))
