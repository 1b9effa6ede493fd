"""A circuit breaker: what fails several times in a row is left alone for a while, and then tried once."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES, PAUSE_S = 5, 5.0


class Breaker:
    """Counts failures in a row. `FAILURES` of them open it; after a pause one try is admitted, which decides.

    Every try that is admitted begins by `begin` and ends by `end`, whatever comes in between.

    Args:
        failures: in a row, which open it.
        pause_s: seconds for which it then admits nothing.
        clock: returns seconds.
    """

    def __init__(
        self, failures: int = FAILURES, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._pause_s, self._clock = failures, pause_s, clock
        self._failures, self._admits_from, self._trying = 0, 0.0, False

    @property
    def open(self) -> bool:
        """Too many tries failed in a row, and none has succeeded since."""
        return self._failures >= self._most

    def admits(self) -> bool:
        """Return whether a try may begin."""
        return not self.open or (not self._trying and self._clock() >= self._admits_from)

    def begin(self) -> None:
        """Begin a try; the first one after a pause keeps others from it."""
        self._trying = self.open

    def end(self, succeeded: bool | None) -> None:
        """End a try; None tells nothing, so that where the breaker is open the next try is admitted at once."""
        self._trying = False
        if succeeded is None:
            return
        self._failures = 0 if succeeded else min(self._failures + 1, self._most)
        if self.open:
            self._admits_from = self._clock() + self._pause_s
