"""Options of `toolkit demo`: its one problem in words."""

from __future__ import annotations

from tests.support.problems import only_problem
from toolkit.config import DemoConfig


def test_a_seed_is_not_negative() -> None:
    DemoConfig(seed=0).check()
    assert "--seed -1: expected 0 or more" in only_problem(DemoConfig(seed=-1))
