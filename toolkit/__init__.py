"""TinyBERT (arXiv 1909.10351) as a toolkit: distil a BERT classifier, export it, prove it, serve it."""

import os

__version__ = "0.1.0"

# On import, onnxruntime 1.32 looks up a telemetry host and writes a device id under $HOME. Python runs this file before
# any module of ours, none of ours imports onnxruntime earlier, and processes that ours start inherit the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
