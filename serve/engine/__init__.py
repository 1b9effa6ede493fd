"""The engine: from an accepted text to its logits, by queue, batches and worker threads."""
