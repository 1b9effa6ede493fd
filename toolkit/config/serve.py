"""Options of `toolkit serve`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from toolkit.config.base import Config, argument, at_least, option
from toolkit.errors import ToolkitError

LOG_FORMATS = ("text", "json", "none")
METRICS_ACCESS = ("keyed", "open")
PREFIX = "TOOLKIT_"
OUTSIDE = {"bundles", "host", "port", "processes", "drain_s", "log_format"}  # the process's, not the application's


@dataclass(frozen=True)
class ServeConfig(Config):
    """Options of `toolkit serve`; the limits have text-embeddings-inference's names."""

    bundles: tuple[str, ...] = argument(
        "ONNX bundles made by export, each as DIR or NAME=DIR; the first is the default"
    )
    host: str = option(
        "127.0.0.1", "address to listen on; 0.0.0.0 is every IPv4 address of this machine", "Network", "HOST"
    )
    port: int = option(8080, "port to listen on; 0 takes any free one", "Network")
    max_concurrent_requests: int = option(512, "inputs accepted and not yet answered; more get 429", "Limits")
    max_batch_tokens: int = option(1024, "tokens of one batch, padding included; memory grows with it", "Limits")
    max_batch_requests: int = option(32, "inputs of one batch", "Limits")
    max_client_batch_size: int = option(32, "inputs of one request", "Limits")
    payload_limit: int = option(2_000_000, "bytes of one request body", "Limits")
    timeout_ms: int = option(
        30_000, "milliseconds a request may take unless its own timeout_ms says otherwise; then 504", "Limits"
    )
    threshold: float = option(
        0.0, "score below which an answer counts as unsure; 0 takes each bundle's own, of toolkit calibrate", "Scores"
    )
    fallback: str | None = option(
        None, "who answers what the first model is unsure of: a larger bundle, exported or in PyTorch, a Hugging Face "
        "classifier's directory, or a URL that ends in /predict (text-embeddings-inference, this server) or /classify "
        "(vLLM), or NAME= one of them", "Fallback", "DIR_OR_URL",
    )  # fmt: skip
    fallback_model: str = option("", "name of the model at a URL that ends in /classify", "Fallback")
    fallback_timeout_ms: int = option(
        1_000, "milliseconds of a request that the fallback may take; then the first model's answer stands", "Fallback"
    )
    fallback_concurrency: int = option(16, "requests to the fallback at once", "Fallback")
    max_fallback_share: float = option(1.0, "largest share of all inputs that the fallback gets", "Fallback", "SHARE")
    audit_share: float = option(
        0.0, "share of the inputs that the first model is sure of that the fallback classifies too, after the answer: "
        "/metrics counts how often both agree", "Fallback", "SHARE",
    )  # fmt: skip
    workers: int = option(0, "threads of a process that run the model; 0 takes one for each CPU", "Processes")
    processes: int = option(
        1, "processes that share the port and the CPUs; the limits above hold for each", "Processes"
    )
    api_keys_file: str | None = option(
        None, "file of one API key a line, besides those in TOOLKIT_API_KEYS", "Access", "FILE"
    )
    admin_keys_file: str | None = option(
        None, "file of one admin key a line, besides those in TOOLKIT_ADMIN_KEYS", "Access", "FILE"
    )
    metrics_access: str = option(
        "keyed", "who may read /metrics where there are API keys: keyed (their holders) or open (everyone)", "Access"
    )
    models_root: str | None = option(
        None, "directory under which admins may name a bundle to change to", "Access", "DIR"
    )
    require_signature: str | None = option(
        None, "public key in PEM whose holder must have signed each bundle (toolkit sign); others are refused",
        "Access", "FILE",
    )  # fmt: skip
    cors_origins: str = option(
        "", "origins whose pages may call this server, separated by commas, or *", "Access", "URLS"
    )
    log_format: str = option(
        "text", "format of the line that each request leaves on stderr: text, json, or none", "Processes"
    )
    shutdown_delay_s: float = option(
        0.0, "seconds between SIGTERM, when readiness goes off, and the end of accepting requests", "Processes"
    )
    drain_s: int = option(30, "seconds that accepted requests then get to finish", "Processes")

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from at_least(0, workers=self.workers, drain_s=self.drain_s)
        yield from at_least(1, processes=self.processes)
        if self.processes > 1 and self.models_root is not None:
            yield "--models-root with --processes: a change of model would reach one process; SIGHUP renews them all"
        if not 0 <= self.shutdown_delay_s < 3600:
            yield f"--shutdown-delay-s {self.shutdown_delay_s}: expected 0 up to 3600"
        if not 0 <= self.threshold <= 1:
            yield f"--threshold {self.threshold:g}: expected 0 to 1"
        yield from self._fallback_problems()
        if self.log_format not in LOG_FORMATS:
            yield f"--log-format {self.log_format}: expected one of {', '.join(LOG_FORMATS)}"
        if self.metrics_access not in METRICS_ACCESS:
            yield f"--metrics-access {self.metrics_access}: expected one of {', '.join(METRICS_ACCESS)}"

    def _fallback_problems(self) -> Iterator[str]:
        yield from at_least(
            1, fallback_timeout_ms=self.fallback_timeout_ms, fallback_concurrency=self.fallback_concurrency
        )
        if not 0 < self.max_fallback_share <= 1:
            yield f"--max-fallback-share {self.max_fallback_share:g}: expected more than 0, at most 1"
        if not 0 <= self.audit_share <= 1:
            yield f"--audit-share {self.audit_share:g}: expected 0 to 1"
        names = ("fallback_model", "fallback_timeout_ms", "fallback_concurrency", "max_fallback_share", "audit_share")
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != getattr(ServeConfig, name)]
        if given and self.fallback is None:
            yield f"{', '.join(given)} without --fallback: expected the model that they are about"

    @classmethod
    def from_strings(cls, texts: Mapping[str, str], shown_as: Callable[[str], str] = str) -> ServeConfig:
        """Read options from text by name; `bundle` holds the bundles, several separated as directories in PATH are.

        Args:
            texts: values by the options' names; names of no option are ignored.
            shown_as: makes an option's name in messages.

        Raises:
            ToolkitError: a value that is not of its option's type.
        """
        bundles = tuple(filter(None, texts.get("bundle", "").split(os.pathsep)))
        options = {
            field.name: parse_value(texts[field.name], field.default, shown_as(field.name))
            for field in fields(cls)
            if field.name in texts and field.name != "bundles"
        }
        return cls(bundles, **options)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> ServeConfig:
        """Read the application's options from TOOLKIT_<OPTION>, for servers that know only the application's name.

        Raises:
            ToolkitError: a variable that is not of its option's type.
        """
        names = ({field.name for field in fields(cls)} | {"bundle"}) - OUTSIDE
        variables = {name: f"{PREFIX}{name.upper()}" for name in names}
        texts = {name: environment[variable] for name, variable in variables.items() if variable in environment}
        return cls.from_strings(texts, variables.__getitem__)


def parse_value(text: str, default: Any, name: str) -> Any:
    """Read a value of its default's type from text; without a default it is a text.

    Raises:
        ToolkitError: the text is not of that type.
    """
    kind = str if default is None else type(default)
    try:
        return kind(text)
    except ValueError:
        raise ToolkitError(f"{name}={text}", expected=f"a number, as {default}") from None
