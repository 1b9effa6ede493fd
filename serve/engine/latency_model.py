"""What a batch costs, learnt from the batches that ran: seconds = a * tokens + b."""

from __future__ import annotations

MEMORY = 0.98  # weight of a batch after each later one: about the last 50 count, so a change of load shows in seconds


class LatencyModel:
    """Least squares over the latest batches, each older one weighing `MEMORY` times less; a and b are never negative.

    Before the first batch every estimate is 0: an unmeasured model refuses nobody.
    """

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._line = (0.0, 0.0)

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a batch of so many tokens, padding included."""
        self._weight = MEMORY * self._weight + 1
        self._x = MEMORY * self._x + tokens
        self._y = MEMORY * self._y + seconds
        self._xx = MEMORY * self._xx + tokens * tokens
        self._xy = MEMORY * self._xy + tokens * seconds
        self._line = self._fit()

    def line(self) -> tuple[float, float]:
        """a, seconds a token, and b, seconds a batch."""
        return self._line

    def _fit(self) -> tuple[float, float]:
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - mean_x * mean_x
        if spread <= 1e-9 * mean_x * mean_x:  # all of one size: the line through the origin
            return mean_y / mean_x, 0.0
        slope = (self._xy / self._weight - mean_x * mean_y) / spread
        if slope < 0:
            return 0.0, mean_y
        start = mean_y - slope * mean_x
        return (slope, start) if start >= 0 else (self._xy / self._xx, 0.0)

    def seconds(self, tokens: int, batches: int = 1) -> float:
        """What so many tokens in so many batches take on one worker."""
        slope, start = self.line()
        return slope * tokens + start * batches
