"""The real server as a process of its own, and one question to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.console import echo
from toolkit.errors import ToolkitError

STOP_TIMEOUT_S = 30.0


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[str]:
    """The real server on a free port; yields its URL once it is ready, ends it after.

    Args:
        bundle: an ONNX bundle.
        options: more of `python -m serve`.

    Raises:
        ToolkitError: it did not become ready.
    """
    command = [sys.executable, "-m", "serve", str(bundle), "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as complaints:
        # keys of somebody's real service would shut us out of our own
        environment = {name: value for name, value in os.environ.items() if name != "TOOLKIT_API_KEYS"}
        process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # printed once it is ready; empty when the server has ended
            found = re.search(r"http://\S+?:\d+", line)
            if not found:
                complaints.seek(0)
                raise ToolkitError(f"the server did not start: {line}{complaints.read().strip()}")
            echo(line.strip())
            yield found.group()
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
            if process.stdout:
                process.stdout.close()


def ask(url: str, text: str) -> Any:
    """POST one text to /predict; the parsed answer, [{"score", "label"}...], best first."""
    body = json.dumps({"inputs": text}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=STOP_TIMEOUT_S) as answer:  # noqa: S310
        return json.load(answer)
