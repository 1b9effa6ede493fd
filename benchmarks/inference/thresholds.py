"""How often a threshold breaks its promise, over draws of calibration rows: `toolkit calibrate`'s and one off a curve.

    python -m benchmarks.inference.thresholds --student runs/demo/int8 --teacher runs/demo/teacher

Both models answer `--sentences` IMDb sentences, which trained neither. Each draw takes `--rows` of them to calibrate
by; a threshold breaks its promise where, of the other sentences that it answers, fewer than the asked share have the
teacher's label. The control is the lowest of the same thresholds whose share on the drawn rows is high enough.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paths import THRESHOLDS
from toolkit.console import show_table
from toolkit.data import builtin
from toolkit.inference.metrics import softmax
from toolkit.inference.predictor import open_predictor
from toolkit.inference.threshold import candidates, find_threshold

MEASURES = ("broken", "none", "coverage")
Finder = Callable[[np.ndarray, np.ndarray, np.ndarray], float | None]


def simulate(
    confidence: np.ndarray, right: np.ndarray, find: Finder, *, share: float, rows: int, draws: int, seed: int = 0
) -> dict[str, float]:
    """Draw calibration rows again and again, and count the draws in which the promise is broken on all other rows.

    Args:
        confidence, right: [n] of all rows: the student's highest probability, and whether it gives the teacher's label.
        find: gives a threshold or None for (thresholds to try, confidence, right), the last two of drawn rows.
        share: that is asked for.
        rows: of a draw; a half of them sets the thresholds to try.
        draws, seed: how many, and of which random numbers.

    Returns:
        Fractions of the draws: "broken" and "none", those without a threshold; and "coverage", the mean fraction of
        the other rows that is answered, over the draws with a threshold.
    """
    generator, broken, none, coverage = np.random.default_rng(seed), 0, 0, list[float]()
    for _ in range(draws):
        order = generator.permutation(len(right))
        fitting, testing, others = np.split(order, [rows // 2, rows])
        threshold = find(candidates(confidence[fitting]), confidence[testing], right[testing])
        if threshold is None:
            none += 1
            continue
        answered = confidence[others] >= threshold
        coverage.append(float(answered.mean()))
        broken += right[others][answered].mean() < share
    return {
        "broken": broken / draws, "none": none / draws, "coverage": float(np.mean(coverage)) if coverage else 0.0,
    }  # fmt: skip


def guaranteed(share: float, certainty: float) -> Finder:
    """Return what `toolkit calibrate` does."""

    def find(thresholds: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float | None:
        chosen, _ = find_threshold(thresholds, confidence, right, share=share, certainty=certainty)
        return None if chosen is None else chosen.threshold

    return find


def off_the_curve(share: float) -> Finder:
    """Return the control: the lowest threshold whose share on the drawn rows is high enough."""

    def find(thresholds: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float | None:
        holding = (value for value in thresholds.tolist() if right[confidence >= value].mean() >= share)
        return next(holding, None)

    return find


def answers(student: str, teacher: str, sentences: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the student's confidence in each sentence, and whether its label is the teacher's."""
    drawn = set(builtin.imdb_sentences(2 * sentences, seed=7))
    texts = sorted(drawn - _learnt(Path(student).with_name("unlabelled.txt")))[:sentences]
    logits = [model.logits(model.encoder.encode(texts)) for model in map(open_predictor, (student, teacher))]
    return softmax(logits[0]).max(axis=1), logits[0].argmax(axis=1) == logits[1].argmax(axis=1)


def _learnt(path: Path) -> set[str]:
    """Read the sentences that the demo's student learnt from, where they lie beside it."""
    return set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()


def main() -> None:
    """Simulate every share and number of rows, print the table, write benchmarks/results/thresholds.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--sentences", type=int, default=8_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.95, 0.98])
    parser.add_argument("--certainty", type=float, default=0.95)
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    confidence, right = answers(arguments.student, arguments.teacher, arguments.sentences)
    runs: list[dict[str, Any]] = []
    for share in arguments.shares:
        finders = {"guaranteed": guaranteed(share, arguments.certainty), "off the curve": off_the_curve(share)}
        for rows in arguments.rows:
            for name, find in finders.items():
                result = simulate(confidence, right, find, share=share, rows=rows, draws=arguments.draws)
                runs.append({"threshold": name, "share": share, "rows": rows, **result})
    report = {
        "sentences": len(right), "agreement": float(right.mean()), "certainty": arguments.certainty,
        "draws": arguments.draws, "runs": runs,
    }  # fmt: skip
    THRESHOLDS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    cells = [
        (run["threshold"], f"{run['share']:g}", str(run["rows"]), *(f"{run[name]:.3f}" for name in MEASURES))
        for run in runs
    ]
    title = f"agreement on all {len(right):,} sentences: {report['agreement']:.4f}"
    show_table(title, ("threshold", "share", "rows", *MEASURES), cells)


if __name__ == "__main__":
    main()
