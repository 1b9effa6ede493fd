"""The same bundle behind LitServe, as its documentation has it for a model on CPUs. A peer for serve_load.

PYTHON -m benchmarks.serving.baseline_litserve DIR PORT    a Python with litserve, onnxruntime, tokenizers and rich
"""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve

from benchmarks.serving.baseline_fastapi import load, ranked

BATCH, BATCH_SECONDS = 32, 0.002  # LitServe waits so long for company


class Api(litserve.LitAPI):
    """One worker process: texts in, ranked labels out."""

    def __init__(self, bundle: str) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS)
        self.bundle = bundle

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's name
        """Load the bundle; each worker has its own."""
        self.predictor = load(self.bundle)

    def decode_request(self, request) -> str:  # type: ignore[no-untyped-def]  # LitServe reads the annotation
        """Return the text of a request."""
        return str(request["inputs"])

    def predict(self, texts: list[str]) -> list[list[dict[str, Any]]]:
        """Classify a batch of texts."""
        return ranked(self.predictor, texts)

    def encode_response(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answer as it is."""
        return output


if __name__ == "__main__":
    workers = len(os.sched_getaffinity(0))
    server = litserve.LitServer(Api(sys.argv[1]), accelerator="cpu", devices=1, workers_per_device=workers, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
