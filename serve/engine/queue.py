"""The queue of a model: inputs that wait, and the choice of those that run together."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from serve.engine.limits import Limits
from serve.engine.tokenization import Tokens
from serve.exceptions import ServeError

WINDOW = 128  # queued inputs looked at for a batch: enough to find like lengths, few enough to scan each time
MAX_PADDING = 0.125  # fraction of a batch that may be padding; beyond it a second batch is cheaper


@dataclass(eq=False)
class PendingRequest:
    """A request whose inputs are queued or running: done when every row has its logits, or a row has failed.

    Attributes:
        done: resolved in the event loop, or failed with the ServeError of a row.
        logits: [C] float32 of each input, in the request's order; None while it waits or runs.
        queue_s, inference_s: seconds of the slowest input.
    """

    done: asyncio.Future[None]
    logits: list[np.ndarray | None]
    queue_s: float = 0.0
    inference_s: float = 0.0

    def deliver(self, row: int, outcome: np.ndarray | ServeError) -> None:
        """Give a row its logits or its error."""
        if self.done.done():
            return
        if isinstance(outcome, ServeError):
            self.done.set_exception(outcome)
            return
        self.logits[row] = outcome
        if all(logits is not None for logits in self.logits):
            self.done.set_result(None)


@dataclass(eq=False)
class QueuedInput:
    """One tokenized input of a request.

    Attributes:
        request, row: the request, and the position among its inputs.
        tokens: L ids; the len() of the input is L.
        queued: when the input was queued, seconds by the workers' clock.
        due: its place in the queue, seconds by that clock: when it was queued, and for how long it lets others pass.
    """

    request: PendingRequest
    row: int
    tokens: Tokens
    queued: float
    due: float

    def __len__(self) -> int:
        return len(self.tokens.ids)


class Queue:
    """Waiting inputs, the first that is due first, and the sum of their tokens."""

    def __init__(self) -> None:
        self.entries: list[QueuedInput] = []
        self.tokens = 0

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entries: Iterable[QueuedInput]) -> None:
        """Queue inputs behind all that are due no later."""
        for entry in entries:
            insort(self.entries, entry, key=attrgetter("due"))
            self.tokens += len(entry)

    def drop(self, request: PendingRequest) -> None:
        """Take off the inputs of a request."""
        self._remove({entry for entry in self.entries if entry.request is request})

    def take(self, share: int, limits: Limits, most_tokens: int) -> list[QueuedInput]:
        """Take off the first input that is due and up to `share` - 1 of like length, within the limits on a batch.

        They have at most `most_tokens`, padding included, where those are enough for two inputs.
        """
        first, *candidates = self.entries[:WINDOW]
        most = min(share, limits.max_batch_requests)
        most_tokens = min(limits.max_batch_tokens, max(most_tokens, 2 * len(first)))
        batch, longest, real = [first], len(first), len(first)
        for entry in sorted(candidates, key=lambda candidate: abs(len(candidate) - len(first))):
            if len(batch) == most:
                break
            width = max(longest, len(entry))
            padded = width * (len(batch) + 1)
            if padded <= most_tokens and padded - real - len(entry) <= MAX_PADDING * padded:
                batch.append(entry)
                longest, real = width, real + len(entry)
        self._remove(set(batch))
        return batch

    def _remove(self, leaving: Collection[QueuedInput]) -> None:
        self.entries = [entry for entry in self.entries if entry not in leaving]
        self.tokens -= sum(map(len, leaving))
