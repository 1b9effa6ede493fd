"""The models of a server: loading, the registry, the exchange of a model, and the replay of recent inputs."""
