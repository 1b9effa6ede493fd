"""A classifier behind a URL, in a thread of this process, with faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """A server with a list of faults, one for each of the next requests; what it was asked.

    A fault is a status, "drop", "hang", "cut", bytes to answer with, or None for none. `answer_of` makes the answer to
    a path and a body.
    """

    def __init__(self, answer_of: Callable[[str, dict[str, Any]], Any]) -> None:
        self.answer_of = answer_of
        self.faults, self.requests, self.keys = list[Any](), list[dict[str, Any]](), list[str | None]()

    @contextmanager
    def running(self, port: int = 0) -> Iterator[str]:
        server, over = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization"))
                fault = server.faults.pop(0) if server.faults else None
                if fault == "drop":
                    self.connection.close()
                    return
                if fault == "hang":
                    over.wait(0.6)
                right = json.dumps(server.answer_of(self.path, body)).encode()
                content = fault if isinstance(fault, bytes) else right
                self.send_response(fault if isinstance(fault, int) else 200)
                self.send_header("Content-Length", str(len(content)))
                if fault == 429:
                    self.send_header("Retry-After", "7")
                self.end_headers()
                self.wfile.write(content[:9] if fault == "cut" else content)

            def log_message(self, *arguments: object) -> None:
                pass

            def finish(self) -> None:
                with suppress(OSError, ValueError):
                    super().finish()

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *arguments: object) -> None:
                pass

        with Quiet(("127.0.0.1", port), Handler) as http:
            thread = threading.Thread(target=http.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{http.server_port}"
            finally:
                over.set()
                http.shutdown()
                thread.join()
