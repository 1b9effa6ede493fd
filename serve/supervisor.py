"""The supervisor of several server processes on one port, whose counts add up to those of one server."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from multiprocessing.connection import wait

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from serve.app import create_app
from serve.engine.limits import Limits
from serve.log_format import announce, configure
from serve.memory import free_large_blocks
from serve.models.fallback import open_fallback
from serve.models.loading import load_predictor, parse_model_names
from serve.models.registry import check_threshold
from serve.shared_metrics import forget_dead_processes, take_place
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor

log = logging.getLogger("serve")
HUNG_SECONDS = 10  # a process that answers no ping for so long is replaced
LOADING_SECONDS = 120  # that a process may take to load its bundles when SIGHUP renews it; with PyTorch 10 are too few


class Supervisor(Multiprocess):
    """uvicorn's supervisor: keeps `config.workers` processes running until SIGTERM or SIGINT; SIGHUP renews them.

    Args:
        config: uvicorn's; its app is a picklable factory, since each process makes its own application.
        sockets: listening; every process accepts from them, so a process that dies takes only its own connections.
        ready: a message for the moment at which all processes answer.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], ready: str) -> None:
        super().__init__(config, sockets)
        self._ready: str | None = ready
        self._failed = False
        self._pids: set[int] = set()

    def keep_subprocess_alive(self) -> None:
        """Replace dead processes, twice a second; their counters stay in the sum, their gauges leave it."""
        for process in self.processes:
            process.child_conn.close()  # the process has its own; with this one a ping would outwait its death
        super().keep_subprocess_alive()
        pids = {process.pid for process in self.processes if process.pid is not None}
        for pid in self._pids - pids:
            log.warning("server process %d ended; another one takes its place", pid)
            if self._ready:  # its successors would end the same way
                self._failed = True
                self.should_exit.set()
        if self._pids - pids:
            forget_dead_processes()
        self._pids = pids
        if self._ready and all(process.is_ready() for process in self.processes):
            announce(self._ready)
            self._ready = None

    def handle_hup(self) -> None:
        """Renew the processes; one that does not answer in time ends, and the old ones stay."""
        self.config.timeout_worker_healthcheck = LOADING_SECONDS
        super().handle_hup()
        self.config.timeout_worker_healthcheck = HUNG_SECONDS

    def terminate_all(self) -> None:
        """Let every process drain, and give up the sockets: once all have closed theirs, connections are refused.

        While this process held them, connections that came during the drain would wait unheard until its end.
        """
        super().terminate_all()
        for listener in self.sockets:
            listener.close()

    def run(self) -> None:
        """Supervise until a stop signal, then wait until every process has answered its accepted requests.

        Raises:
            ToolkitError: a process failed to start; its log says why.
        """
        super().run()
        if self._failed or any(process.exitcode == STARTUP_FAILURE for process in self.processes):
            raise ToolkitError("a server process could not start", fix="its own message stands above")


def build_app(config: ServeConfig) -> tuple[dict[str, Predictor], FastAPI]:
    """Load and check the predictors of a configuration, by name, and create the application that serves them.

    Raises:
        ToolkitError: a bundle is missing or damaged, limits that cannot work, or keys that cannot be read.
    """
    free_large_blocks()
    accepted = Limits.of(config)
    directories, signer = parse_model_names(config.bundles), config.require_signature
    predictors = {name: load_predictor(directory, signer) for name, directory in directories.items()}
    check_threshold(predictors, config.threshold)
    for predictor in predictors.values():
        accepted.check(predictor.bundle.max_length)
    fallback = open_fallback(config, predictors, accepted)
    return predictors, create_app(predictors, config=config, limits=accepted, fallback=fallback)


def open_bundles(config: ServeConfig) -> dict[str, Bundle]:
    """Verify the bundles of a configuration, by name, without their models: a supervisor would keep those in memory.

    Raises:
        ToolkitError: a bundle is missing or damaged, or limits that cannot work.
    """
    accepted = Limits.of(config)
    bundles = {name: open_bundle(directory) for name, directory in parse_model_names(config.bundles).items()}
    for bundle in bundles.values():
        accepted.check(bundle.max_length)
    return bundles


def worker_app(config: ServeConfig) -> FastAPI:
    """Create the application inside a process of a `Supervisor`; where that cannot be, log why and end the process."""
    configure(config.log_format)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True, name="end-with-parent").start()
    take_place()
    try:
        return build_app(config)[1]
    except ToolkitError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)


def _end_with(sentinel: int) -> None:
    """Drain and exit, as on SIGTERM, when the supervisor is gone: nobody else would stop this process."""
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
