"""The message about options that have one problem."""

from __future__ import annotations

import pytest

from toolkit.config import Config
from toolkit.errors import ToolkitError


def only_problem(config: Config) -> str:
    """Check that a configuration has exactly one problem, and give its message."""
    with pytest.raises(ToolkitError, match="1 problem\n") as caught:
        config.check()
    return str(caught.value)
