"""Ask a running service, with nothing but Python's own library.

python examples/call_service.py http://localhost:8080 "a warm and funny film" "dull and far too long"
"""

from __future__ import annotations

import json
import sys
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

Label = dict[str, str | float]  # {"label": "positive", "score": 0.976}


def classify(address: str, texts: list[str], tries: int = 5) -> list[list[Label]]:
    """Rank the labels of each text, best first; wait as long as an overloaded server asks for."""
    body = json.dumps({"inputs": [[text] for text in texts], "timeout_ms": 5000}).encode()
    request = Request(f"{address}/predict", body, {"Content-Type": "application/json"})
    for _ in range(tries):
        try:
            with urlopen(request, timeout=10) as response:
                answers: list[list[Label]] = json.load(response)
                return answers
        except HTTPError as error:
            with error:
                if error.code != 429:  # bad input, a deadline, a missing key: the body says which
                    raise SystemExit(json.load(error)["error"]) from None
                time.sleep(int(error.headers["Retry-After"]))
    raise SystemExit("the server stays overloaded")


def main(address: str, *texts: str) -> None:
    """Print the best label of each text."""
    for text, labels in zip(texts, classify(address, list(texts)), strict=True):
        print(f"{labels[0]['label']} {labels[0]['score']:.3f}  {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
