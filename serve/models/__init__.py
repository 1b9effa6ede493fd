"""The models of a server: loading, the registry, exchange, and replay."""
