"""The server's log: its loggers and their JSON and text formats."""

from __future__ import annotations

import json
import logging
import os
import select
import sys
from datetime import UTC, datetime

from toolkit.console import echo

STDERR = 2
server_log = logging.getLogger("serve")
requests = logging.getLogger("serve.requests")


class JsonFormatter(logging.Formatter):
    """A JSON object for each line: time, level, message, the fields of a request, and the traceback of a fault."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line; JSON escapes all but ASCII, so that no text can start a line of its own."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }  # fmt: skip
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """A line of text for people: `12:30:01 POST /predict 200 3.1 ms tokens=9 ...`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Format a request as one line, any other record in the usual form."""
        if record.name != requests.name:
            return super().format(record)
        fields = dict(getattr(record, "fields", {}))
        head = [str(fields.pop(name)) for name in ("method", "path", "status")]
        total = f"{fields.pop('total_ms'):.1f} ms"
        rest = [f"{name}={value}" for name, value in fields.items()]
        return " ".join([self.formatTime(record, self.datefmt), *head, total, *rest])


class StderrHandler(logging.Handler):
    """Writes to stderr as long as it takes lines at once; a reader that has stopped must not stop the server.

    A pipe that can be written to takes PIPE_BUF bytes without waiting, so that longer lines go out in parts. Lines that
    find no room are dropped, and their number is told before the next that does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or drop it."""
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        if self.dropped and self._write(f"{self.dropped} lines of the log found no reader\n"):
            self.dropped = 0
        self.dropped += not self._write(line)

    def _write(self, line: str) -> bool:
        data = line.encode(errors="backslashreplace")
        try:
            for start in range(0, len(data), select.PIPE_BUF):
                if not select.select((), (STDERR,), (), 0)[1]:
                    return False
                os.write(STDERR, data[start : start + select.PIPE_BUF])
        except (OSError, ValueError):  # closed, or a device that is full
            return False
        return True


def announce(message: str) -> None:
    """Print a line to stdout; a device that is full or a pipe that nobody reads is no reason to fail."""
    try:
        echo(message)
        sys.stdout.flush()
    except (OSError, SystemExit) as error:  # rich exits where nobody reads the pipe
        server_log.warning("stdout takes nothing: %s", getattr(error, "strerror", "nobody reads it"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter fails at its end


def configure(log_format: str) -> None:
    """Send the server's and uvicorn's log to stderr: as "json" or "text"; "none" leaves only warnings and errors."""
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    for name in ("serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    requests.setLevel(logging.WARNING if log_format == "none" else logging.INFO)
