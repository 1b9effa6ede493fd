"""The check that scores over HTTP are those of `toolkit predict`, whatever shares a batch with a text.

python -m benchmarks.serving.scores DIR [--data SST-2] [--texts 1000] [--connections 1 8 64] [--processes 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.serving.load import VARIABLES, Load, closed_loop, dev_texts, save
from toolkit.benchmarking.server.http_client import Address, post
from toolkit.benchmarking.server.process import serving
from toolkit.inference.predictor import Predictor, open_predictor


def scores_of(answer: list[dict[str, Any]], labels: Sequence[str]) -> list[float]:
    """Read the scores of an input's answer in the order of the labels."""
    by_label = {entry["label"]: entry["score"] for entry in answer}
    return [by_label[label] for label in labels]


def one_by_one(predictor: Predictor, texts: Sequence[str]) -> np.ndarray:
    """Compute scores [n, C] as `toolkit predict` does: each text alone."""
    return np.concatenate([predictor.predict([text]) for text in texts])


def differences(load: Load, expected: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Compute the largest absolute difference of each text's scores; infinite where there is no answer."""
    largest = np.full(len(expected), np.inf)
    for number, reply in load.replies.items():
        if reply.status == 200:
            largest[number] = np.abs(np.subtract(scores_of(json.loads(reply.body), labels), expected[number])).max()
    return largest


def compare(
    address: Address, predictor: Predictor, texts: Sequence[str], connections: Sequence[int]
) -> list[dict[str, Any]]:
    """Classify every text at each concurrency, and measure how far the scores are from the predictor's."""
    expected = one_by_one(predictor, texts)
    requests = [post({"inputs": text}) for text in texts]
    rows = []
    for count in connections:
        largest = differences(asyncio.run(closed_loop(address, requests, count)), expected, predictor.task.labels)
        rows.append({
            "connections": count, "texts": len(texts), "identical": int((largest == 0).sum()),
            "unanswered": int(np.isinf(largest).sum()), "largest_difference": float(largest.max()),
        })  # fmt: skip
    return rows


def main() -> None:
    """Print and store one row for each concurrency; exit 1 when a score differs by more than --tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--data", help="folder with SST-2's dev.tsv [default: the embedded Rotten Tomatoes]")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    arguments = parser.parse_args()
    texts = dev_texts(arguments.data, arguments.texts)
    options = ("--log-format", "none", "--processes", str(arguments.processes))
    with serving(arguments.bundle, *options, **VARIABLES) as address:
        rows = compare(address, open_predictor(arguments.bundle, threads=1), texts, arguments.connections)
    save("serve_scores", {"bundle": arguments.bundle, "processes": arguments.processes, "rows": rows})
    sys.exit(any(row["largest_difference"] > arguments.tolerance for row in rows))


if __name__ == "__main__":
    main()
