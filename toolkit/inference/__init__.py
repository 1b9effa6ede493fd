"""Logits of a bundle: runtimes, the predictor, and the metrics on a split."""
