"""Separable rows of a task that a small model learns in seconds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

GOOD = ["good", "great", "fine", "lovely", "warm", "bright", "clever", "moving", "funny", "tender"]
BAD = ["bad", "awful", "poor", "dull", "cold", "bleak", "stupid", "boring", "flat", "harsh"]
FILLER = [
    "the", "a", "this", "that", "film", "movie", "plot", "actor", "scene", "story", "is", "was", "feels", "seems",
    "very", "quite", "rather", "and", "but", "it", "with", "of",
]  # fmt: skip


def sentence(random: np.random.Generator, label: int) -> str:
    """Three to twelve filler words around one or two words that decide the label."""
    words = list(random.choice(FILLER, random.integers(3, 13)))
    for word in random.choice(GOOD if label else BAD, random.integers(1, 3)):
        words.insert(int(random.integers(0, len(words) + 1)), word)
    return " ".join(words)


def rows(n: int, seed: int) -> list[tuple[str, int]]:
    """n separable (text, label) rows, both labels about equally often."""
    random = np.random.default_rng(seed)
    return [(sentence(random, label), label) for label in random.integers(0, 2, n).tolist()]


def write_csv(path: Path, table: list[tuple[str, int]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([text, ("negative", "positive")[label]] for text, label in table)


def dev_texts(folder: Path) -> list[str]:
    with (folder / "dev.csv").open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]
