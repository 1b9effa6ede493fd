"""From an accepted text to its logits: the queue, the batches, the worker threads."""
