"""The HTTP service: schemas, batching, app."""
