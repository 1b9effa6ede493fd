"""Texts with any number of labels each.

    python examples/multi_label.py [ENCODER]

A label column of JSON lists makes the task multi-label: each label gets a probability of its own.
"""

from __future__ import annotations

import csv
import itertools
import json
import sys
from pathlib import Path

from toolkit import distill, finetune, load

COMPLAINTS = {
    "food": ("the soup was cold", "the bread was stale", "the fish tasted old"),
    "service": ("the waiter was rude", "nobody came to our table", "we waited an hour"),
    "price": ("the bill was wrong", "it cost too much", "they charged us twice"),
}


def write_rows(folder: Path) -> None:
    """Write train.csv and dev.csv: all pairs of sentences, whose labels are those of both."""
    sentences = [(text, label) for label, texts in COMPLAINTS.items() for text in texts]
    rows = [
        (f"{a} and {b}" if a != b else a, json.dumps(sorted({x, y})))
        for (a, x), (b, y) in itertools.product(sentences, repeat=2)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in {"train": rows * 4, "dev": rows[::4] * 2}.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *part])


def main(encoder: str = "sentence-transformers/all-MiniLM-L6-v2", *, out: str = "runs/complaints") -> None:
    """Train a teacher and its student, and ask the student."""
    data = f"{out}/data"
    write_rows(Path(data))
    finetune(model=encoder, task="auto", data=data, out=f"{out}/teacher")
    small = distill(teacher=f"{out}/teacher", task="auto", data=data, out=f"{out}/student")
    print(f"F1 {small.metrics['f1']:.1%} of {', '.join(small.task.labels)}")
    (answer,) = load(small).classify(["the soup was cold and they charged us twice"])
    print([label for label, probability in answer if probability > 0.5])


if __name__ == "__main__":
    main(*sys.argv[1:])
