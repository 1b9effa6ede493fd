"""The HTTP service: schemas, batching, app."""

import sys
from importlib.util import find_spec
from pathlib import Path

# `python -m serve` and uvicorn put the working directory first: a user's toolkit.py must not take the place of ours
_ROOT = Path(__file__).resolve().parents[1]
_toolkit = find_spec("toolkit")
if _toolkit is None or _toolkit.origin is None or not Path(_toolkit.origin).resolve().is_relative_to(_ROOT):
    sys.path.insert(0, str(_ROOT))
