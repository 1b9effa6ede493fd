"""Pairs of texts: does the second follow from the first?

    python examples/sentence_pairs.py [ENCODER]

A second column of text makes the task one about pairs; here both columns are named, in real data they may be guessed.
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path

from toolkit import distill, finetune, load

PEOPLE = ("a man", "a woman", "a child", "a girl", "a boy", "an old man")
ACTIONS = ("is reading", "is singing", "is cooking", "is running", "is sleeping", "is painting")
PLACES = ("at home", "in a garden", "by the sea", "on a train")
HYPOTHESES = {"entailment": "somebody {}", "neutral": "somebody {} for money", "contradiction": "nobody {}"}


def write_rows(folder: Path) -> None:
    """Write train.csv and dev.csv with the columns premise, hypothesis and label."""
    rows = [
        (f"{person} {action} {place}", hypothesis.format(action), label)
        for person, action, place in itertools.product(PEOPLE, ACTIONS, PLACES)
        for label, hypothesis in HYPOTHESES.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in {"train": [row for i, row in enumerate(rows) if i % 5], "dev": rows[::5]}.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("premise", "hypothesis", "label"), *part])


def main(encoder: str = "sentence-transformers/all-MiniLM-L6-v2", *, out: str = "runs/pairs") -> None:
    """Train a teacher and its student, and ask the student."""
    data = f"{out}/data"
    write_rows(Path(data))
    finetune(
        model=encoder, task="auto", data=data, out=f"{out}/teacher", text_column="premise", pair_column="hypothesis"
    )
    small = distill(
        teacher=f"{out}/teacher", task="auto", data=data, out=f"{out}/student",
        text_column="premise", pair_column="hypothesis",
    )  # fmt: skip
    print(f"accuracy {small.metrics['accuracy']:.1%}")
    premises, hypotheses = ["a girl is singing by the sea"] * 2, ["somebody is singing", "nobody is singing"]
    for hypothesis, answer in zip(hypotheses, load(small).classify(premises, hypotheses), strict=True):
        print(f"{hypothesis}: {answer[0].label} {answer[0].score:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
