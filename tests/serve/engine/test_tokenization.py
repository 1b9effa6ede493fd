"""Inputs to token ids: short ones at once, long ones on a thread; each request its own tokens, faults kept apart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from serve.engine.tokenization import INLINE_CHARACTERS, Text, Tokenization
from serve.exceptions import ServeError
from tests.support.arithmetic_bundles import SUM, save_arithmetic
from toolkit.data.tokenization import Direction, EncodedTexts, TextEncoder

BROKEN = "breaks"
LONG = "word " * (INLINE_CHARACTERS // 5 + 1)


class Gated:
    """An encoder that notes who calls it, waits at its gate in a thread and fails at one text."""

    def __init__(self, inner: TextEncoder) -> None:
        self.inner, self.calls, self.gate = inner, list[list[str]](), threading.Event()
        self.at_once: list[bool] = []
        self.max_length = inner.max_length

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, side: Direction = "right"
    ) -> EncodedTexts:
        self.calls.append(list(texts))
        self.at_once.append(threading.current_thread() is threading.main_thread())
        assert self.at_once[-1] or self.gate.wait(30)
        if BROKEN in texts:
            raise RuntimeError("as told")
        return self.inner.encode(texts, pairs, side)

    def count(self, text: str, pair: str | None = None) -> int:
        assert len(text) <= INLINE_CHARACTERS
        return self.inner.count(text, pair)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> TextEncoder:
    folder = save_arithmetic(tmp_path_factory.mktemp("tokens") / "sum", tokenizer, SUM)
    return TextEncoder(Path(folder), 8)


def run(encoder: TextEncoder, work: Callable[[Tokenization, Gated], Awaitable[None]]) -> None:
    async def main() -> None:
        gated = Gated(encoder)
        try:
            async with asyncio.timeout(60):
                await work(Tokenization(gated, threads), gated)  # type: ignore[arg-type]
        finally:
            gated.gate.set()

    with ThreadPoolExecutor(1) as threads:
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
            st.booleans(),
        ),
        min_size=1, max_size=8,
    ),
)  # fmt: skip
def test_every_request_gets_its_own_tokens(
    encoder: TextEncoder, requests: list[tuple[list[Text], Direction, bool]]
) -> None:
    asked = [([*texts, (LONG, None)] if long else texts, side) for texts, side, long in requests]

    async def work(tokenization: Tokenization, gated: Gated) -> None:
        gated.gate.set()
        results = await asyncio.gather(*(tokenization.encode(texts, True, side) for texts, side in asked))
        for (texts, side), tokens in zip(asked, results, strict=True):
            assert len(tokens) == len(texts)
            for (text, pair), encoded in zip(texts, tokens, strict=True):
                alone = encoder.encode([text], None if pair is None else [pair], side)
                assert encoded.ids.tolist() == alone.ids[0].tolist()
                assert encoded.type_ids.tolist() == alone.type_ids[0].tolist()
                assert encoded.cut == alone.truncated[0]

    run(encoder, work)


def test_what_is_short_waits_for_no_thread_and_what_is_long_does_not_hold_it_up(encoder: TextEncoder) -> None:
    half = "a" * (INLINE_CHARACTERS // 2)

    async def work(tokenization: Tokenization, gated: Gated) -> None:
        long = asyncio.ensure_future(tokenization.encode([(LONG, None)], True, "right"))
        await until(lambda: gated.calls)  # the only thread is taken
        await tokenization.encode([(half, half)], True, "right")
        together = asyncio.ensure_future(tokenization.encode([(half, half), ("a", None)], True, "right"))
        left = asyncio.ensure_future(tokenization.encode([("a", None)], True, "left"))
        await asyncio.sleep(0.01)
        assert gated.at_once == [False, True]
        assert not any(task.done() for task in (long, together, left))
        gated.gate.set()
        await asyncio.gather(long, together, left)
        assert gated.at_once == [False, True, False, False, False]  # texts and pairs are told apart

    run(encoder, work)


@pytest.mark.parametrize("company", [[], [(LONG, None)]])
def test_a_fault_is_of_its_own_request_alone(encoder: TextEncoder, company: list[Text]) -> None:
    long = "a b c d e f g h i j k l"

    async def work(tokenization: Tokenization, gated: Gated) -> None:
        gated.gate.set()
        texts: list[list[Text]] = [[("a", None)], [(BROKEN, None)], [("a", "b"), (long, None)], [(long, None)]]
        asked = [tokenization.encode([*text, *company], i != 3, "right") for i, text in enumerate(texts)]
        good, broken, cut, refused = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(good, list)
        assert isinstance(cut, list)
        assert [tokens.cut for tokens in cut][:2] == [False, True]
        assert isinstance(broken, ServeError)
        assert (broken.error_type, broken.message) == ("Tokenizer", "the tokenizer failed: as told")
        assert isinstance(refused, ServeError)
        assert refused.error_type == "Validation"
        assert f"{encoder.count(long)} tokens, more than the 8" in refused.message

    run(encoder, work)


def test_a_long_text_is_refused_in_the_time_of_an_answer_and_the_time_is_learnt(encoder: TextEncoder) -> None:
    async def work(tokenization: Tokenization, gated: Gated) -> None:
        gated.gate.set()
        with pytest.raises(ServeError, match="has more tokens than the 8 that the model takes"):
            await tokenization.encode([("a " * INLINE_CHARACTERS, None)], False, "right")
        assert tokenization.latency.seconds(INLINE_CHARACTERS) > 0

    run(encoder, work)


def test_who_left_costs_nothing(encoder: TextEncoder) -> None:
    async def work(tokenization: Tokenization, gated: Gated) -> None:
        first, gone, stays = (
            asyncio.ensure_future(tokenization.encode([(f"{name} {LONG}", None)], True, "right"))
            for name in ("first", "gone", "stays")
        )
        await until(lambda: gated.calls)
        gone.cancel()
        first.cancel()  # under way: its tokens come back to nobody
        await asyncio.sleep(0.01)
        gated.gate.set()
        await stays
        assert [call[0].split()[0] for call in gated.calls] == ["first", "stays"]
        assert gone.cancelled()
        assert first.cancelled()

    run(encoder, work)
