"""The student's first weights: projected from its teacher, read from a directory, or random."""
