"""The server's log: its loggers and their JSON and text formats."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

faults = logging.getLogger("serve")
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


def configure(log_format: str) -> None:
    """Send the server's and uvicorn's log to stderr: as "json" or "text"; "none" leaves only warnings and errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    for name in ("serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    requests.setLevel(logging.WARNING if log_format == "none" else logging.INFO)
