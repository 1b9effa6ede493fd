"""What the model gave, as the client gets it: ranked labels, and headers that tell what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from serve.batching import Answer
from serve.schemas import Inputs
from toolkit.metrics import scores
from toolkit.tasks import Task


def rank(
    logits: np.ndarray, task: Task, *, raw_scores: bool = False, top_k: int | None = None
) -> list[list[dict[str, Any]]]:
    """Logits [n, C] to n lists of {"score", "label"}, best first, equal scores in the order of the labels."""
    values = logits.astype(np.float64) if raw_scores else scores(logits, task.kind)
    order = np.argsort(-values, axis=1, kind="stable")[:, :top_k]
    return [
        [{"score": float(row[c]), "label": task.labels[c]} for c in best]
        for row, best in zip(values, order, strict=True)
    ]


def cost_headers(inputs: Inputs, answer: Answer, total_s: float) -> dict[str, str]:
    """The headers that text-embeddings-inference sends: characters, tokens, and whole milliseconds.

    Beyond it: Server-Timing with fractions of milliseconds, which browsers show, and x-truncated when any was cut.
    """
    characters = sum(len(text) + len(pair or "") for text, pair in inputs.texts)
    stages = answer.stages()
    seconds = {"compute": total_s, "total": total_s, **stages}
    timing = {**stages, "total": total_s}
    return {
        "x-compute-type": "cpu", "x-compute-characters": str(characters), "x-compute-tokens": str(answer.tokens),
        **{f"x-{name}-time": str(int(value * 1000)) for name, value in seconds.items()},
        "server-timing": ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in timing.items()),
        **({"x-truncated": "true"} if answer.truncated else {}),
    }  # fmt: skip


def log_fields(inputs: Inputs, answer: Answer) -> dict[str, Any]:
    """What the log tells of an answered request: counts and times, nothing that was sent."""
    return {
        "inputs": len(inputs.texts), "tokens": answer.tokens, "truncated": answer.truncated,
        **{f"{name}_ms": round(value * 1000, 3) for name, value in answer.stages().items()},
    }  # fmt: skip
