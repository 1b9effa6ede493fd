"""Quantization of linear layers and embedding tables."""
