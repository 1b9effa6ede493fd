"""The expected duration of a batch, fitted to the batches that ran: seconds = a * tokens + b."""

from __future__ import annotations

import math

DECAY = 0.98  # of a batch's weight with each later batch: about the last 50 count, so a change of load shows in seconds


class LatencyModel:
    """Least squares with exponentially decaying weights; a and b are never negative.

    Before the first batch every estimate is 0, so a model that was never measured refuses nobody.
    """

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._line = (0.0, 0.0)

    def observe(self, tokens: int, seconds: float) -> None:
        """Add a batch of so many tokens, padding included, to the fit."""
        self._weight = DECAY * self._weight + 1
        self._x = DECAY * self._x + tokens
        self._y = DECAY * self._y + seconds
        self._xx = DECAY * self._xx + tokens * tokens
        self._xy = DECAY * self._xy + tokens * seconds
        self._line = self._fit()

    def line(self) -> tuple[float, float]:
        """Return a, seconds a token, and b, seconds a batch."""
        return self._line

    def _fit(self) -> tuple[float, float]:
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - mean_x * mean_x
        if spread <= 1e-9 * mean_x * mean_x:  # all batches have one size: the line through the origin
            return mean_y / mean_x, 0.0
        slope = (self._xy / self._weight - mean_x * mean_y) / spread
        if slope < 0:
            return 0.0, mean_y
        intercept = mean_y - slope * mean_x
        return (slope, intercept) if intercept >= 0 else (self._xy / self._xx, 0.0)

    def tokens(self, seconds: float, share: float) -> float:
        """Estimate the tokens of a batch that runs for `seconds`, or so long that b is at most a `share` of it.

        Infinite before the first batch, and where tokens take no time.
        """
        slope, intercept = self.line()
        return (max(seconds, intercept / share) - intercept) / slope if slope else math.inf

    def seconds(self, tokens: int, batches: int = 1) -> float:
        """Estimate the seconds of so many tokens in so many batches on one worker."""
        slope, intercept = self.line()
        return slope * tokens + intercept * batches
