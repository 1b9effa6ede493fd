"""Large blocks that are freed do not stay resident behind small ones."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

# 40 MB in blocks of 2 MB, each with a small one behind it; prints how many bytes stay when the large ones are freed
PROGRAM = """
from pathlib import Path
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096
def fill():
    blocks = [(bytearray(b"x") * 2_000_000, bytearray(b"x") * 90_000) for _ in range(20)]
    return [small for _, small in blocks]
fill()  # what is freed raises the threshold
before, kept = resident(), fill()
print(resident() - before - sum(map(len, kept)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_go_back_to_the_system() -> None:
    def stays(first: str) -> int:
        run = subprocess.run(
            [sys.executable, "-c", first + PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    assert stays("") > 20_000_000  # otherwise this proves nothing
    assert stays("from serve.memory import free_large_blocks; free_large_blocks()") < 4_000_000
