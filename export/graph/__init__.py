"""Rewrites of ONNX graphs that change no answer."""
