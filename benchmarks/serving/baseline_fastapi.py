"""The simplest server: FastAPI and a handler that runs the model on one text. A control for serve_load.

python -m benchmarks.serving.baseline_fastapi DIR PORT
"""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel

from toolkit.inference.predictor import Predictor
from toolkit.inference.runtimes import OnnxRuntime


class Body(BaseModel):
    """A request."""

    inputs: str


class Label(BaseModel):
    """An entry of a list, best first."""

    score: float
    label: str


def load(bundle: str) -> Predictor:
    """Load a predictor as the server does: one session, on its caller's thread, without spinning."""
    from toolkit.bundle.format import open_bundle

    opened = open_bundle(bundle)
    return Predictor(opened, OnnxRuntime(opened.weights, threads=1, spinning=False))


def ranked(predictor: Predictor, texts: list[str]) -> list[list[dict[str, Any]]]:
    """Compute labels and scores of each text, best first."""
    scores = predictor.predict(texts)
    return [
        sorted(
            ({"score": float(s), "label": label} for s, label in zip(row, predictor.task.labels, strict=True)),
            key=lambda entry: -float(entry["score"]),
        )
        for row in scores
    ]


def control(bundle: str, port: int) -> None:
    """Serve until killed; the threads are the framework's."""
    import uvicorn
    from fastapi import FastAPI

    predictor, app = load(bundle), FastAPI()

    @app.post("/predict")
    def predict(body: Body) -> list[Label]:
        return [Label(**entry) for entry in ranked(predictor, [body.inputs])[0]]

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    control(sys.argv[1], int(sys.argv[2]))
