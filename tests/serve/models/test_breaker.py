"""The circuit breaker by a clock of its own."""

from __future__ import annotations

from serve.models.breaker import Breaker


def test_it_opens_after_failures_in_a_row_and_one_try_decides() -> None:
    now = 0.0
    breaker = Breaker(failures=3, pause_s=10.0, clock=lambda: now)

    def attempt(succeeded: bool | None) -> None:
        assert breaker.admits()
        breaker.begin()
        breaker.end(succeeded)

    for succeeded in (False, False, True, False, None, False):
        attempt(succeeded)
        assert not breaker.open, "never three in a row"
    attempt(False)
    assert (breaker.open, breaker.admits()) == (True, False)
    now = 9.9
    assert not breaker.admits()
    now = 10.0
    attempt(False)
    now = 19.9
    assert not breaker.admits(), "a try that failed begins another pause"
    now = 20.0
    assert breaker.admits()
    breaker.begin()
    assert not breaker.admits(), "one try at a time"
    breaker.end(None)
    assert breaker.open
    attempt(True)
    assert not breaker.open
    attempt(False)
    attempt(False)
    assert not breaker.open, "the count begins anew"


def test_tries_that_were_under_way_when_it_opened_change_no_pause_of_theirs() -> None:
    now = 0.0
    breaker = Breaker(failures=1, pause_s=10.0, clock=lambda: now)
    breaker.begin()
    breaker.begin()
    breaker.end(False)
    assert breaker.open
    now = 5.0
    breaker.end(True)
    assert not breaker.open, "an answer is an answer"
