"""Clipping changes no token: every family of tokenizers, both directions, single texts and pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.support.data import BAD, FILLER, GOOD
from toolkit.data import clipping
from toolkit.data.clipping import clip, count_tokens
from toolkit.data.tokenization import Direction, TextEncoder
from toolkit.errors import ToolkitError

WORDS = [
    *GOOD,
    *BAD,
    *FILLER,
    "don't",
    "it's",
    "e\u0301te\u0301",
    "\u6620\u753b\u9928",
    "\U0001f3ac",
    "12345678901234",
    "..!?",
    "<mask>",
    "[SEP]",
]
CORPUS = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
BERT = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
)


def wordpiece() -> Tokenizer:
    """BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, show_progress=False, special_tokens=["[PAD]", "[CLS]", "[SEP]", "[UNK]", "<mask>"]
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = BERT
    return tokenizer


def byte_level() -> Tokenizer:
    """RoBERTa's and ModernBERT's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, special_tokens=["<pad>", "<s>", "</s>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    return tokenizer


def unigram() -> Tokenizer:
    """XLM-RoBERTa's, ALBERT's and DeBERTa's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(" {2,}", " ")]  # type: ignore[list-item]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        show_progress=False,
        unk_token="<unk>",
        special_tokens=["<pad>", "[CLS]", "[SEP]", "<unk>", "<mask>"],
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = BERT
    return tokenizer


@pytest.fixture(scope="module", params=[wordpiece, byte_level, unigram], ids=lambda make: make.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("family")
    request.param().save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    return path


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Clip above 80 characters, or never."""

    def clip_small(on: bool) -> None:
        monkeypatch.setattr("toolkit.data.tokenization.PART", 80 if on else 10**9)
        monkeypatch.setattr(clipping, "PART", 80)
        monkeypatch.setattr(clipping, "CHARACTERS_PER_TOKEN", 1)

    return clip_small


TEXTS = st.lists(
    st.one_of(
        st.sampled_from(WORDS), st.sampled_from([" ", "  ", "\n", "", "\u3000", "x" * 300, " " * 300, "7" * 202, "."]),
        st.text(max_size=4),
    ),
    max_size=60,
).flatmap(lambda parts: st.sampled_from([" ", "", "\t"]).map(lambda between: between.join(parts)))  # fmt: skip
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@EXAMPLES
@given(
    texts=st.lists(st.tuples(TEXTS, st.none() | TEXTS), min_size=1, max_size=3),
    max_length=st.integers(5, 12), direction=st.sampled_from(["right", "left"]),
)  # fmt: skip
def test_the_tokens_are_those_of_the_whole_text(
    folder: Path, small_parts: Callable[[bool], None], texts: list[tuple[str, str | None]], max_length: int,
    direction: Direction,
) -> None:  # fmt: skip
    for text, pair in texts:
        results = []
        for on in (True, False):
            small_parts(on)
            encoded = TextEncoder(folder, max_length).encode([text], None if pair is None else [pair], direction)
            results.append((encoded.ids[0].tolist(), encoded.type_ids[0].tolist(), bool(encoded.truncated[0])))
        assert results[0] == results[1]


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("between", [" ", ""])
def test_a_long_text_is_clipped_to_what_is_needed(folder: Path, direction: Direction, between: str) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(32)
    text = between.join(["good", "film"] * 50_000)
    part = clip(tokenizer, text, 32, direction)
    assert len(part) < 40_000
    if between:
        assert len(part) <= 2048  # many texts at once cost little
    if between or not isinstance(tokenizer.model, models.WordPiece):
        assert text.startswith(part) if direction == "right" else text.endswith(part)
    else:  # a word of BERT's is one token, however long
        assert (len(part), part[:101], part[-101:]) == (202, text[:101], text[-101:])
    assert clip(tokenizer, "good film", 32, direction) == "good film"


def test_a_text_of_a_few_words_without_end_is_refused(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(32)
    text = "e\u0301" * 150_000
    if isinstance(tokenizer.model, models.WordPiece):
        with pytest.raises(ToolkitError, match="a text of 300,000 characters has at most 32 tokens in 262,144 of them"):
            clip(tokenizer, text, 32, "right")
    else:  # their tokens are short
        assert len(clip(tokenizer, text, 32, "right")) < 40_000


def test_runs_stay_where_a_shorter_one_could_have_other_tokens() -> None:
    tokenizer = wordpiece()
    text = "x" * 300 + " " * 300 + "y"
    assert clipping._shorten_runs(tokenizer, text) == "x" * 202 + " " * 202 + "y"
    assert clipping._shorten_runs(byte_level(), text) == text
    tokenizer.add_tokens(["covid\u00e9"])  # covide, once it is normalized
    assert clipping._shorten_runs(tokenizer, text) == text


def test_counting_in_parts_is_counting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = " ".join(CORPUS)
    whole = len(tokenizer.encode(text, add_special_tokens=False))
    tokenizer.enable_truncation(7)
    assert count_tokens(tokenizer, text) == whole
    monkeypatch.setattr(clipping, "COUNTED_TOGETHER", 100)
    assert count_tokens(tokenizer, text) == pytest.approx(whole, rel=0.02)
