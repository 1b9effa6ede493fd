"""Size, FLOPs and latency against BERT-base, and the claims about them."""
