"""Tokenization off the event loop: each request its own tokens, one trip for all that wait, faults kept apart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import SUM, save_arithmetic
from tokenizers import Tokenizer

from serve.schemas import ServeError, Text
from serve.tokenization import TOGETHER, Tokenization
from toolkit.text import Direction, Encoded, TextEncoder

BROKEN = "breaks"


class Gated:
    """An encoder that counts its calls, waits at its gate and fails at one text."""

    def __init__(self, inner: TextEncoder) -> None:
        self.inner, self.calls, self.gate = inner, list[list[str]](), threading.Event()
        self.max_length = inner.max_length

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, side: Direction = "right") -> Encoded:
        self.calls.append(list(texts))
        assert self.gate.wait(30)
        if BROKEN in texts:
            raise RuntimeError("as told")
        return self.inner.encode(texts, pairs, side)

    def count(self, text: str, pair: str | None = None) -> int:
        return self.inner.count(text, pair)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> TextEncoder:
    folder = save_arithmetic(tmp_path_factory.mktemp("tokens") / "sum", tokenizer, SUM)
    return TextEncoder(Path(folder), 8)


def run(encoder: TextEncoder, work: Callable[[Tokenization, Gated], Awaitable[None]], most: int = 1) -> None:
    async def main() -> None:
        gated = Gated(encoder)
        try:
            async with asyncio.timeout(60):
                await work(Tokenization(gated, threads, most), gated)  # type: ignore[arg-type]
        finally:
            gated.gate.set()

    with ThreadPoolExecutor(most) as threads:
        asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@settings(max_examples=25, deadline=None)
@given(
    requests=st.lists(
        st.tuples(
            st.lists(st.tuples(st.text(min_size=1, max_size=30), st.none() | st.text(max_size=20)), min_size=1),
            st.sampled_from(["right", "left"]),
        ),
        min_size=1, max_size=8,
    ),
    most=st.integers(1, 3),
)  # fmt: skip
def test_every_request_gets_its_own_tokens(
    encoder: TextEncoder, requests: list[tuple[list[Text], Direction]], most: int
) -> None:
    async def work(tokenization: Tokenization, gated: Gated) -> None:
        gated.gate.set()
        found = await asyncio.gather(*(tokenization.encode(texts, True, side) for texts, side in requests))
        for (texts, side), tokens in zip(requests, found, strict=True):
            assert len(tokens) == len(texts)
            for (text, pair), one in zip(texts, tokens, strict=True):
                alone = encoder.encode([text], None if pair is None else [pair], side)
                assert one.ids.tolist() == alone.ids[0].tolist()
                assert one.type_ids.tolist() == alone.type_ids[0].tolist()
                assert one.cut == alone.truncated[0]

    run(encoder, work, most)


def test_what_waits_goes_together(encoder: TextEncoder) -> None:
    async def work(tokenization: Tokenization, gated: Gated) -> None:
        first = asyncio.ensure_future(tokenization.encode([("first", None)], True, "right"))
        await until(lambda: gated.calls)
        others = [
            asyncio.ensure_future(tokenization.encode([(f"t{i}", None)], True, "right")) for i in range(TOGETHER + 5)
        ]
        await asyncio.sleep(0.01)
        assert gated.calls == [["first"]]
        gated.gate.set()
        await asyncio.gather(first, *others)
        assert [len(call) for call in gated.calls] == [1, TOGETHER, 5]

    run(encoder, work)


def test_one_turn_of_the_loop_is_one_trip(encoder: TextEncoder) -> None:
    async def work(tokenization: Tokenization, gated: Gated) -> None:
        gated.gate.set()
        await asyncio.gather(*(tokenization.encode([(f"t{i}", None)], True, "right") for i in range(6)))
        assert gated.calls == [[f"t{i}" for i in range(6)]]

    run(encoder, work)


def test_a_fault_is_of_its_own_request_alone(encoder: TextEncoder) -> None:
    long = "a b c d e f g h i j k l"

    async def work(tokenization: Tokenization, gated: Gated) -> None:
        gated.gate.set()
        texts: list[list[Text]] = [[("a", None)], [(BROKEN, None)], [("a", "b"), (long, None)], [(long, None)]]
        asked = [tokenization.encode(one, i != 3, "right") for i, one in enumerate(texts)]
        good, broken, cut, refused = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(good, list)
        assert isinstance(cut, list)
        assert [one.cut for one in cut] == [False, True]
        assert isinstance(broken, ServeError)
        assert (broken.error_type, broken.message) == ("Tokenizer", "the tokenizer failed: as told")
        assert isinstance(refused, ServeError)
        assert refused.error_type == "Validation"
        assert f"{encoder.count(long)} tokens, more than the 8" in refused.message

    run(encoder, work)


def test_who_left_costs_nothing(encoder: TextEncoder) -> None:
    async def work(tokenization: Tokenization, gated: Gated) -> None:
        first = asyncio.ensure_future(tokenization.encode([("first", None)], True, "right"))
        await until(lambda: gated.calls)
        gone = asyncio.ensure_future(tokenization.encode([("gone", None)], True, "right"))
        stays = asyncio.ensure_future(tokenization.encode([("stays", None)], True, "right"))
        await asyncio.sleep(0.01)
        gone.cancel()
        first.cancel()  # under way: its tokens come back to nobody
        gated.gate.set()
        await stays
        assert gated.calls == [["first"], ["stays"]]
        assert gone.cancelled()
        assert first.cancelled()

    run(encoder, work)
