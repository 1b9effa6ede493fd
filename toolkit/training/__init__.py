"""One training loop for every stage, and `toolkit finetune`."""
