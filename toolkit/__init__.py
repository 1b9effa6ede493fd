"""TinyBERT (arXiv 1909.10351) as a toolkit: distil a BERT classifier, export it, prove it, serve it."""

__version__ = "0.1.0"
