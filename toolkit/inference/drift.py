"""Drift: how far the texts that a model answers, and its answers, are from a baseline of rows that it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.bundle.baseline import Baseline, Bins
from toolkit.inference.metrics import scores
from toolkit.tasks import Kind

LEAST_SHARE = 1e-4  # of a bin: the logarithm of an empty one would be infinite
MOST_BINS = 10


def stability_index(expected: np.ndarray, observed: np.ndarray) -> float:
    """Compute the population stability index of two counts over the same k bins, [k] each.

    PSI = sum over i of (q_i - p_i) ln(q_i / p_i), where p_i and q_i are the shares of bin i in `expected` and in
    `observed`, at least LEAST_SHARE each. It is 0 for equal shares and never negative: the Kullback-Leibler divergence
    in both directions, added. The usual reading: below 0.1 nothing has changed, above 0.25 much has. Without any change
    it is about (k - 1) (1/n + 1/m) on average, for n and m inputs: 0.03 for ten bins, 500 and 1,000 inputs.

    Source: Siddiqi, "Credit Risk Scorecards", Wiley 2006; for its distribution Yurdakul and Naranjo, "Statistical
    properties of the population stability index", Journal of Risk Model Validation 14 (2020).
    """
    p, q = (np.maximum(counts / counts.sum(), LEAST_SHARE) for counts in (expected, observed))
    return float(((q - p) * np.log(q / p)).sum())


@dataclass(frozen=True)
class Traits:
    """What n inputs and the answers to them are like.

    Attributes:
        labels: [C + 1] inputs answered with each label, and last those with none; [0] for regression.
        confidence: [n] best scores, which no temperature changed; numbers for regression.
        length: [n] tokens, special ones included.
        unknown: [n] shares of unknown pieces among the tokens.
    """

    labels: np.ndarray
    confidence: np.ndarray
    length: np.ndarray
    unknown: np.ndarray

    @classmethod
    def of(cls, kind: Kind, logits: np.ndarray, ids: Sequence[np.ndarray], unknown_id: int | None) -> Traits:
        """Take the traits of n inputs, at least one.

        Args:
            kind: of the task.
            logits: [n, C].
            ids: n arrays of tokens [L_i].
            unknown_id: the token of unknown pieces; None where the tokenizer has none.
        """
        plain = scores(logits, kind)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        ends = np.cumsum(lengths)
        unknown = np.append(0, np.cumsum(np.concatenate(ids) == unknown_id))  # up to each token
        shares = (unknown[ends] - unknown[ends - lengths]) / np.maximum(lengths, 1)
        return cls(count_labels(plain, kind), plain.max(axis=1), lengths, shares)


def count_labels(plain: np.ndarray, kind: Kind) -> np.ndarray:
    """Count the inputs answered with each label by their scores [n, C], and last those with none, [C + 1].

    A multi-label input is answered with every label of 0.5 or more. A regression has no labels, [0].
    """
    if kind == "regression":
        return np.zeros(0, dtype=np.int64)
    if kind == "multi_label":
        answered = plain >= 0.5
        return np.append(answered.sum(axis=0), (~answered.any(axis=1)).sum())
    return np.bincount(plain.argmax(axis=1), minlength=plain.shape[1] + 1)


def make_baseline(traits: Traits, rows_of: str, sha256: str) -> Baseline:
    """Count the traits of rows in bins by their deciles."""
    *labels, unlabelled = traits.labels.tolist() or [0]
    return {
        "rows": len(traits.length), "rows_of": rows_of, "rows_sha256": sha256, "labels": labels,
        "unlabelled": unlabelled, "confidence": _by_deciles(traits.confidence),
        "length": _by_deciles(traits.length), "unknown": _by_deciles(traits.unknown),
    }  # fmt: skip


def _by_deciles(values: np.ndarray) -> Bins:
    deciles = np.arange(1, MOST_BINS) / MOST_BINS
    edges = np.unique(np.quantile(values, deciles, method="inverted_cdf").astype(np.float64))
    return {"edges": edges.tolist(), "counts": _counts(edges, values).tolist()}


def _counts(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)


class Reference:
    """A baseline as what inputs are counted against.

    Labels have bins of their own up to nine; of more labels those that are most frequent in the baseline, and the rest
    together are the tenth.

    Attributes:
        names: of the traits that are compared: labels (but for regression), confidence, length, unknown.
    """

    def __init__(self, baseline: Baseline) -> None:
        labels = np.array([*baseline["labels"], baseline["unlabelled"]])
        order = np.argsort(-labels, kind="stable")
        self._bin_of = np.empty(len(labels), dtype=np.int64)
        self._bin_of[order] = np.minimum(np.arange(len(labels)), MOST_BINS - 1)
        bins = {name: baseline[name] for name in ("confidence", "length", "unknown")}
        self._edges = [np.array(trait["edges"], dtype=np.float64) for trait in bins.values()]
        self._expected = [np.array(trait["counts"]) for trait in bins.values()]
        self.names = [*bins]
        if baseline["labels"]:
            self.names.insert(0, "labels")
            self._expected.insert(0, self._by_bin(labels))
        self._ends = np.cumsum([len(counts) for counts in self._expected])

    def _by_bin(self, labels: np.ndarray) -> np.ndarray:
        return np.bincount(self._bin_of, weights=labels).astype(np.int64)

    @property
    def size(self) -> int:
        """Bins of all traits together, K."""
        return int(self._ends[-1])

    def count(self, traits: Traits) -> np.ndarray:
        """Count inputs in the bins of all traits, [K]."""
        values = (traits.confidence, traits.length, traits.unknown)
        counts = [_counts(edges, numbers) for edges, numbers in zip(self._edges, values, strict=True)]
        return np.concatenate([self._by_bin(traits.labels), *counts] if len(traits.labels) else counts)

    def indices(self, counts: np.ndarray) -> dict[str, float]:
        """Compute the population stability index of each trait from counts [K] of at least one input."""
        traits = zip(self.names, self._expected, np.split(counts, self._ends[:-1]), strict=True)
        return {name: stability_index(expected, observed) for name, expected, observed in traits}
