"""`python -m serve DIR...`: bundles on one port, by one process or several, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import errno
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from typing import Any

import uvicorn

from serve.http.connection import Connection
from serve.log_format import configure
from serve.supervisor import HUNG_SECONDS, Supervisor, build_app, shared_metrics, worker_app
from toolkit.config import ServeConfig
from toolkit.console import echo, stderr
from toolkit.errors import ToolkitError

KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep a connection, so that it is never ours that closes one in use


def run(config: ServeConfig) -> None:
    """Serve bundles until SIGTERM or SIGINT, then answer what was accepted and return.

    Raises:
        ToolkitError: a bundle is missing or damaged (found before anything listens), limits that cannot work,
            keys that cannot be read, or an address or port that cannot be had.
    """
    predictors, app = build_app(config)
    with listen(config.host, config.port) as listener:
        shown, bound = listener.getsockname()[:2]
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}"
        served = ", ".join(
            f"{one.bundle.path} as {name} ({one.task.name}, {one.bundle.precision})" for name, one in predictors.items()
        )
        ready = f"serving {served}: POST {url}/predict, try it at {url}/"
        configure(config.log_format)
        settings: dict[str, Any] = {
            "log_level": "warning", "log_config": None, "access_log": False, "lifespan": "on", "server_header": False,
            "timeout_graceful_shutdown": config.drain_s, "timeout_keep_alive": KEEP_ALIVE_SECONDS, "http": Connection,
            "ws": "none",
        }  # fmt: skip
        with _stop_signals_end_quietly():
            if config.processes == 1:
                _Server(uvicorn.Config(app, **settings), ready).run(sockets=[listener])
                return
            del predictors, app  # checked; each process loads its own
            settings |= {"factory": True, "workers": config.processes, "timeout_worker_healthcheck": HUNG_SECONDS}
            with shared_metrics():
                Supervisor(uvicorn.Config(partial(worker_app, config), **settings), [listener], ready).run()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Raises:
        ToolkitError: the port is taken or not ours to take, or the host is not an address of this machine.
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
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            with listen(host, 0) as free:
                other = free.getsockname()[1]
            raise ToolkitError(f"port {port} on {host} is in use", fix=f"--port {other}, which is free") from error
        raise ToolkitError(
            f"cannot listen on {host} port {port}: {error.strerror}", fix="--host 127.0.0.1 and a --port above 1023"
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Says when requests are answered, which uvicorn's own log does at a level that says much else too."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            echo(self._ready)


@contextmanager
def _stop_signals_end_quietly() -> Iterator[None]:
    """After draining, uvicorn raises the signal again for whoever handled it before: here that is the end of `run`."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit code is 0 after a stop signal and 2 for bad usage or input."""
    parser = argparse.ArgumentParser(
        prog="python -m serve", description="Serve exported bundles over HTTP.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    for one in fields(ServeConfig):
        text = one.metadata["help"]
        if one.metadata.get("argument"):
            parser.add_argument(one.name, nargs="+", metavar="DIR", help=text)
        else:
            kind = str if one.default is None else type(one.default)
            flag = f"--{one.name.replace('_', '-')}"
            parser.add_argument(flag, type=kind, default=one.default, help=text)
    try:
        given = vars(parser.parse_args(arguments))
        run(ServeConfig(**{**given, "bundles": tuple(given["bundles"])}))
    except ToolkitError as error:
        stderr.print(str(error), markup=False)
        return error.exit_code
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
