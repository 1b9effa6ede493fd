"""TinyBERT (arXiv 1909.10351) as a toolkit: distil a BERT classifier, export it, prove it, serve it.

The names below come from `toolkit.api` at their first use, so that importing this package loads nothing else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.api import (
        Bundle,
        Event,
        GateError,
        LabelScore,
        Listener,
        Predictor,
        ToolkitError,
        augment,
        bench,
        calibrate,
        cascade,
        compress,
        distill,
        distill_seeds,
        evaluate,
        export,
        finetune,
        listening,
        load,
        score,
        serve,
    )

__version__ = "0.1.0"
__all__ = [
    "Bundle", "Event", "GateError", "LabelScore", "Listener", "Predictor", "ToolkitError", "augment", "bench",
    "calibrate", "cascade", "compress", "distill", "distill_seeds", "evaluate", "export", "finetune", "listening",
    "load", "score", "serve",
]  # fmt: skip

# On import, onnxruntime 1.32 looks up a telemetry host and writes a device id under $HOME. Python runs this file before
# any module of ours, none of ours imports onnxruntime earlier, and processes that ours start inherit the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Import a name of the Python API when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from toolkit import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the names of the Python API too."""
    return sorted({*globals(), *__all__})
