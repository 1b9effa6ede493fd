"""More training rows, by a masked language model and GloVe."""
