"""Rows of a task, readers of their files, token ids, batches, the packed corpus."""
