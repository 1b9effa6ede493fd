"""A headless Chromium for the tests of pages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
SCREENSHOTS = Path(__file__).parent.parent / "build" / "screenshots"  # kept, to be looked at


def find_browser() -> str:
    """Its path; skips the test where NO_BROWSER is set, fails where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found:
        return found
    if os.environ.get("NO_BROWSER"):
        pytest.skip("NO_BROWSER is set")
    pytest.fail("no Chromium: apt-get install chromium, or set CHROMIUM=/path, or NO_BROWSER=1 to do without")


def run_browser(browser: str, profile: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with a profile of its own."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
