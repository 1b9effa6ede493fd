"""Options of `toolkit serve`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, argument, at_least, option

LOG_FORMATS = ("text", "json", "none")


@dataclass(frozen=True)
class ServeConfig(Config):
    """Options of `toolkit serve`; the limits have text-embeddings-inference's names."""

    bundle: str = argument("ONNX bundle to serve, made by export")
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every IPv4 address of this machine")
    port: int = option(8080, "port to listen on; 0 takes any free one")
    max_concurrent_requests: int = option(512, "inputs accepted and not yet answered; more get 429")
    max_batch_tokens: int = option(1024, "tokens of one batch, padding included; memory grows with it")
    max_batch_requests: int = option(32, "inputs of one batch")
    max_client_batch_size: int = option(32, "inputs of one request")
    payload_limit: int = option(2_000_000, "bytes of one request body")
    timeout_ms: int = option(
        30_000, "milliseconds a request may take unless its own timeout_ms says otherwise; then 504"
    )
    workers: int = option(0, "threads of a process that run the model; 0 takes one for each CPU")
    processes: int = option(1, "processes that share the port and the CPUs; the limits above hold for each")
    api_keys_file: str | None = option(None, "file of one API key a line, besides those in TOOLKIT_API_KEYS")
    cors_origins: str = option("", "origins whose pages may call this server, separated by commas, or *")
    log_format: str = option("text", "of the line a request on stderr: text, json, or none")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from at_least(0, workers=self.workers)
        yield from at_least(1, processes=self.processes)
        if self.log_format not in LOG_FORMATS:
            yield f"--log-format {self.log_format}: expected one of {', '.join(LOG_FORMATS)}"
