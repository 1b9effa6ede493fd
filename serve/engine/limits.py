"""Limits of a server: how much it accepts, and how many threads run the models."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.config import ServeConfig
from toolkit.errors import raise_problems
from toolkit.measurement.environment import cpu_quota

MAX_INPUTS = 8192  # of a request, whatever max_client_batch_size: to check more would hold the event loop for long


@dataclass(frozen=True)
class Limits:
    """The limits of a process; the names are text-embeddings-inference's.

    Attributes:
        max_concurrent_requests: inputs accepted and not yet answered; more are refused before any work.
        max_batch_tokens: tokens of one batch, padding included; memory grows with it.
        max_batch_requests: inputs of one batch.
        max_client_batch_size: inputs of one request.
        payload_limit: bytes of one request body.
        timeout_ms: milliseconds that a request may take unless it names its own.
        workers: threads that run the model, one CPU each.
    """

    max_concurrent_requests: int = ServeConfig.max_concurrent_requests
    max_batch_tokens: int = ServeConfig.max_batch_tokens
    max_batch_requests: int = ServeConfig.max_batch_requests
    max_client_batch_size: int = ServeConfig.max_client_batch_size
    payload_limit: int = ServeConfig.payload_limit
    timeout_ms: int = ServeConfig.timeout_ms
    workers: int = field(default_factory=cpu_quota)

    @classmethod
    def of(cls, config: ServeConfig) -> Limits:
        """Derive the limits of each process from a configuration; the processes share the CPUs and nothing else."""
        config.check()
        return cls(
            config.max_concurrent_requests, config.max_batch_tokens, config.max_batch_requests,
            config.max_client_batch_size, config.payload_limit, config.timeout_ms,
            workers=config.workers or max(1, cpu_quota() // config.processes),
        )  # fmt: skip

    def check(self, max_length: int) -> None:
        """Raise one ToolkitError with every limit that cannot work for inputs of up to `max_length` tokens."""
        problems = [f"{name} {value}: expected 1 or more" for name, value in vars(self).items() if value < 1]
        if 0 < self.max_batch_tokens < max_length:
            problems.append(f"max_batch_tokens {self.max_batch_tokens}: expected at least max_length, {max_length}")
        if self.max_client_batch_size > MAX_INPUTS:
            problems.append(f"max_client_batch_size {self.max_client_batch_size}: expected at most {MAX_INPUTS}")
        if 0 < self.max_concurrent_requests < self.max_client_batch_size:
            problems.append(
                f"max_client_batch_size {self.max_client_batch_size}: expected at most max_concurrent_requests, "
                f"{self.max_concurrent_requests}; a full request would never be accepted"
            )
        raise_problems(problems, subject="these limits cannot be used")
