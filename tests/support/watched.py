"""A command in a network and a home directory of its own: `python -m tests.support.watched COMMAND...`, by `unshare`.

The network has one host, a name server that answers no name and writes each name that is asked for into `names`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.paths import ROOT

UNSHARE = ("unshare", "--map-root-user", "--net", "--mount")
SET_FLAGS, UP_AND_RUNNING = 0x8914, 0x41  # SIOCSIFFLAGS; IFF_UP | IFF_RUNNING
NO_SUCH_NAME = b"\x81\x83"
NAMES = "LOOKED_UP"  # in the environment: the file of the names


def can_unshare() -> bool:
    """Whether this machine lets a user have namespaces of their own."""
    return (
        shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    )


def watch(folder: Path, *command: str, **environment: str) -> tuple[set[str], set[str]]:
    """Run Python with these arguments; return the names that it looked up and the files that it left at home."""
    home, names = folder / "home", folder / "names"
    home.mkdir()
    names.touch()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    settings = inherited | {"HOME": str(home), NAMES: str(names), "OMP_NUM_THREADS": "1"} | environment
    inside = (*UNSHARE, sys.executable, "-m", "tests.support.watched") if can_unshare() else ()
    done = subprocess.run(
        [*inside, sys.executable, *command], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    return set(names.read_text().split()), files


def serve_names(server: socket.socket, names: Path) -> None:
    """Answer every question with "no such name"."""
    while True:
        question, client = server.recvfrom(512)
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode())
            at += 1 + question[at]
        with names.open("a") as file:
            file.write(".".join(labels) + "\n")
        header = question[:2] + NO_SUCH_NAME + question[4:6] + bytes(6)
        server.sendto(header + question[12 : at + 5], client)


def main() -> int:
    """Set the network up, run the command, return its exit code."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(server, SET_FLAGS, struct.pack("16sh14x", b"lo", UP_AND_RUNNING))
    subprocess.run(["mount", "--bind", "/dev/null", "/etc/resolv.conf"], check=True)  # then the resolver asks this host
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=serve_names, args=(server, Path(os.environ[NAMES])), daemon=True).start()
    return subprocess.run(sys.argv[1:]).returncode


if __name__ == "__main__":
    sys.exit(main())
