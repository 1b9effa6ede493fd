"""Repositories have an owner and a name."""

from __future__ import annotations

import pytest

from tests.support.problems import only_problem
from toolkit.config import PullConfig, PushConfig, SignConfig, VerifyConfig


@pytest.mark.parametrize("repo", ["reviews", "a/b/c", "/reviews", "me/"])
def test_a_repository_without_owner_or_name_is_refused(repo: str) -> None:
    assert f"{repo}: expected OWNER/NAME" in only_problem(PushConfig("b", repo))
    assert f"{repo}: expected OWNER/NAME" in only_problem(PullConfig(repo, "out"))


def test_what_can_be_used_has_no_problem() -> None:
    configs = (
        PushConfig("b", "me/b", license="mit"),
        PullConfig("me/b", "o"),
        SignConfig("b", "k"),
        VerifyConfig("b", "k"),
    )
    assert [list(config.problems()) for config in configs] == [[]] * 4
    assert "apache-2.0" in only_problem(PushConfig("b", "me/b", license=" "))
    assert not PushConfig("b", "me/b").public, "private by default"
