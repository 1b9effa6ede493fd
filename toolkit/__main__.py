"""`python -m toolkit`."""

from __future__ import annotations

from toolkit.cli.main import main

main()
