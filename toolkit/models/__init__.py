"""Hugging Face models: their families, loading, and the student's shape and projections."""
