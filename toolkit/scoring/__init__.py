"""Scores of a model for files of texts of any size."""
