"""The command `python -m serve DIR...`: bundles on one port, by one process or several, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import typer
import uvicorn

from serve.http.connection import Connection
from serve.log_format import announce, configure
from serve.shared_metrics import shared_metrics
from serve.supervisor import HUNG_SECONDS, Supervisor, build_app, open_bundles, worker_app
from toolkit.bundle.format import Bundle
from toolkit.config import ServeConfig
from toolkit.config.options import GroupedCommand, from_config
from toolkit.console import show_error
from toolkit.errors import ToolkitError, resource_error

SEND_SECONDS = 30.0  # for which a client may take nothing of its answer; then the connection is dropped
KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep a connection, so that the server never closes one in use


def run(config: ServeConfig) -> None:
    """Serve bundles until SIGTERM or SIGINT, then answer what was accepted and return.

    Raises:
        ToolkitError: a bundle is missing or damaged (checked before anything listens), limits that cannot work,
            keys that cannot be read, or an address or port that is not available.
    """
    if config.processes == 1:
        predictors, app = build_app(config)
        bundles = {name: predictor.bundle for name, predictor in predictors.items()}
    else:
        bundles = open_bundles(config)
    with listen(config.host, config.port) as listener:
        ready = _ready_message(bundles, listener, config.fallback)
        configure(config.log_format)
        with _stop_signals_end_quietly():
            if config.processes == 1:
                _Server(_uvicorn_config(app, config), ready).run(sockets=[listener])
                return
            uvicorn_config = _uvicorn_config(
                partial(worker_app, config), config, factory=True, workers=config.processes,
                timeout_worker_healthcheck=HUNG_SECONDS,
            )  # fmt: skip
            with shared_metrics():
                Supervisor(uvicorn_config, [listener], ready).run()


def _ready_message(bundles: Mapping[str, Bundle], listener: socket.socket, fallback: str | None) -> str:
    """Say which bundles answer, who answers what the first one is unsure of, and at which address."""
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    models = ", ".join(
        f"{bundle.path} as {name} ({bundle.task.name}, {bundle.precision})" for name, bundle in bundles.items()
    )
    if fallback is not None:
        models += f", and {fallback} for what {next(iter(bundles))} is unsure of"
    return f"serving {models}: POST {url}/predict, try it at {url}/"


def _uvicorn_config(app: Any, config: ServeConfig, **more: Any) -> uvicorn.Config:
    """Settings of uvicorn for an application or a factory of it."""
    return uvicorn.Config(
        app, log_level="warning", log_config=None, access_log=False, lifespan="on", server_header=False, ws="none",
        http=Connection, timeout_graceful_shutdown=config.drain_s, timeout_keep_alive=KEEP_ALIVE_SECONDS, **more,
    )  # fmt: skip


def listen(host: str, port: int) -> socket.socket:
    """Open a listening TCP socket.

    Raises:
        ToolkitError: the port is taken or not permitted, or the host is not an address of this machine.
    """
    if not 0 <= port <= 65535:
        raise ToolkitError(f"--port {port}", expected="0 (any free port) to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ToolkitError(f"--host {host}: {error.strerror}", expected="127.0.0.1, 0.0.0.0 or a host name") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":  # connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * SEND_SECONDS))
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            with listen(host, 0) as free:
                free_port = free.getsockname()[1]
            raise ToolkitError(f"port {port} on {host} is in use", fix=f"--port {free_port}, which is free") from error
        raise ToolkitError(
            f"cannot listen on {host} port {port}: {error.strerror}", fix="--host 127.0.0.1 and a --port above 1023"
        ) from error
    return listener


class _Server(uvicorn.Server):
    """A server that says when it is ready; uvicorn's own log would say much else at that level."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            announce(self._ready)


@contextmanager
def _stop_signals_end_quietly() -> Iterator[None]:
    """Ignore the stop signal that uvicorn raises again after it has drained, so that `run` returns."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit code is 0 after a stop signal and 2 for bad usage or input."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command(cls=GroupedCommand)
    @from_config(ServeConfig)
    def serve(options: ServeConfig) -> None:
        """Serve exported bundles over HTTP."""
        run(options)

    try:
        app(arguments, prog_name="python -m serve")
    except ToolkitError as error:
        show_error(str(error))
        return error.exit_code
    except OSError as error:
        if (resource := resource_error(error)) is None:
            raise
        show_error(str(resource))
        return resource.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
