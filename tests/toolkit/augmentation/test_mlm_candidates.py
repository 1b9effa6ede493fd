"""Candidates from a real small masked language model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from tests.support.data import BAD, FILLER, GOOD
from tests.support.masked_lm import masked_words, save_mlm
from toolkit.augmentation.mlm_candidates import MaskedLMCandidates, masked_logits, whole_words
from toolkit.augmentation.words import eligible_words
from toolkit.data.datasets import load_split, resolve_task
from toolkit.errors import ToolkitError


def propose(model: MaskedLMCandidates, *texts: str) -> list[dict[str, list[str]]]:
    """Candidates by word for each text."""
    words = [eligible_words(text) for text in texts]
    candidates = model.candidates(texts, words)
    return [
        {words[i][j].text: names for (i, j), names in sorted(candidates.items()) if i == n} for n in range(len(texts))
    ]


class TestMaskedLMCandidates:
    def test_the_best_words_and_nothing_else(self, tmp_path: Path) -> None:
        best = ["##ing", "[SEP]", "!", "7", "[unused1]", "warm", "good", "cold", "bad"]
        model = masked_words(save_mlm(tmp_path / "m", [*best, "film", "mov", "##ie"], best), tmp_path)
        # in the order of the vocabulary; a word is never its own candidate; movie is two pieces, zebra none
        assert propose(model, "good film", "a Movie! zebra COLD") == [
            {"good": ["warm", "cold", "bad"], "film": ["warm", "good", "cold"]}, {"COLD": ["WARM", "GOOD", "BAD"]},
        ]  # fmt: skip

    def test_fewer_words_than_asked_for(self, tmp_path: Path) -> None:
        model = masked_words(save_mlm(tmp_path / "m", ["good", "film", "##x"]), tmp_path, k=15)
        assert propose(model, "good film") == [{"good": ["film"], "film": ["good"]}]

    def test_korean(self, tmp_path: Path) -> None:
        pieces = ["영화", "정말", "좋다", "나쁘다", "연극", "##는", "."]
        model = masked_words(save_mlm(tmp_path / "m", pieces, ["##는", ".", "나쁘다", "연극", "영화"]), tmp_path, k=2)
        assert propose(model, "영화는 정말 좋다.", "영화 좋다") == [
            {"정말": ["나쁘다", "연극"], "좋다": ["나쁘다", "연극"]},  # 영화는 is two pieces
            {"영화": ["나쁘다", "연극"], "좋다": ["나쁘다", "연극"]},
        ]

    def test_chinese(self, tmp_path: Path) -> None:
        model = masked_words(save_mlm(tmp_path / "m", list("电影很好坏。"), list("。坏很影")), tmp_path, k=2)
        assert propose(model, "电影很好。") == [
            {"电": ["很", "坏"], "影": ["很", "坏"], "很": ["影", "坏"], "好": ["很", "坏"]}
        ]

    def test_one_word_per_forward_gives_the_same(self, tmp_path: Path) -> None:
        """Against the plain way: one input at a time, the head on all tokens, a loop over the sorted vocabulary."""
        vocabulary = GOOD + BAD + FILLER + ["##s"]
        path = save_mlm(tmp_path / "m", vocabulary)
        texts = ["a warm clever film", "the plot is dull and flat but the actor was great", "good"]
        model = BertForMaskedLM.from_pretrained(path).eval()
        for text, by_word in zip(texts, propose(masked_words(path, tmp_path), *texts), strict=True):
            pieces = [2, *(5 + vocabulary.index(word) for word in text.split()), 3]
            assert list(by_word) == list(dict.fromkeys(text.split()))
            for word, names in by_word.items():
                place = max(i + 1 for i, other in enumerate(text.split()) if other == word)
                masked = [*pieces[:place], 4, *pieces[place + 1 :], *pieces[1:]]
                types = [0] * len(pieces) + [1] * (len(pieces) - 1)
                with torch.no_grad():
                    logits = model(torch.tensor([masked]), token_type_ids=torch.tensor([types])).logits[0, place]
                ranked = [vocabulary[i - 5] for i in logits.argsort(descending=True).tolist() if i >= 5]
                assert set(names) == set([piece for piece in ranked if piece not in (word, "##s")][:3])

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("together", [1, 3])
    def test_batches_do_not_matter(self, together: int, precision: str, tmp_path: Path, data_dir: Path) -> None:
        path = save_mlm(tmp_path / "m", GOOD + BAD + FILLER)
        texts = load_split(resolve_task("auto", data_dir), "train", data_dir).texts[:40]
        proposals = [propose(masked_words(path, tmp_path, 5, size, together, precision), *texts) for size in (1, 7, 64)]
        assert proposals[0] == proposals[1] == proposals[2]
        # they depend on the place
        assert len({tuple(names) for by_word in proposals[0] for names in by_word.values()}) > 50

    def test_ties_fall_the_same_way_in_every_batch(self, tmp_path: Path) -> None:
        path = save_mlm(tmp_path / "m", GOOD + BAD)
        model = BertForMaskedLM.from_pretrained(path)
        with torch.no_grad():
            model.bert.embeddings.word_embeddings.weight.zero_()  # tied to the head: all logits are the biases, 0
        model.save_pretrained(path)
        texts = ["good", "good bad dull", "great awful"]
        alone, together = (propose(masked_words(path, tmp_path, 3, size), *texts) for size in (1, 64))
        assert alone == together

    def test_inputs_of_a_batch_are_of_one_length(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = masked_words(save_mlm(tmp_path / "m", GOOD + BAD), tmp_path, batch_size=4)
        batches, best = list[list[int]](), model._best
        monkeypatch.setattr(
            model, "_best",
            lambda pairs, chosen: (batches.append([len(pairs[i].ids) for i, _ in chosen]), best(pairs, chosen))[1],
        )  # fmt: skip
        propose(model, "good bad", "warm", "dull great", "flat awful")
        # without the inputs that near ties had computed alone
        batches = [lengths for lengths in batches if len(lengths) > 1 or lengths == [5]]
        assert batches == [[7, 7, 7, 7], [7, 7], [5]]

    def test_together_masks_all_words_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save_mlm(tmp_path / "m", GOOD + BAD, ["good", "bad", "great", "flat"])
        model, inputs = masked_words(path, tmp_path, masks_per_input=2), list[int]()
        best = model._best
        monkeypatch.setattr(model, "_best", lambda pairs, chosen: (inputs.append(len(chosen)), best(pairs, chosen))[1])
        assert propose(model, "warm dull cold") == [
            {word: ["good", "great", "bad"] for word in ("warm", "dull", "cold")}
        ]
        assert inputs == [2]  # warm and cold in one, dull in the other

    def test_long_texts_are_cut_at_the_models_positions(self, tmp_path: Path) -> None:
        model = masked_words(save_mlm(tmp_path / "m", GOOD + BAD, GOOD), tmp_path)
        words = eligible_words(" ".join(["dull"] * 100))
        candidates = model.candidates([" ".join(["dull"] * 100)], [words])
        assert sorted(candidates) == [(0, number) for number in range(len(candidates))]
        assert 25 <= len(candidates) <= 31  # 64 positions: three special tokens, half for the original

    def test_the_head_on_masked_tokens_is_the_whole_models(self, tmp_path: Path) -> None:
        ids = torch.randint(5, 40, (3, 9), generator=torch.Generator().manual_seed(0))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        places = torch.tensor([[0, 3], [0, 5], [2, 8]])
        sizes = {"vocab_size": 40, "num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16}
        for model in (
            BertForMaskedLM(BertConfig(**sizes, num_attention_heads=2)),
            RobertaForMaskedLM(RobertaConfig(**sizes, num_attention_heads=2)),
            DistilBertForMaskedLM(DistilBertConfig(vocab_size=40, n_layers=1, dim=16, hidden_dim=16, n_heads=2)),
        ):
            with torch.no_grad():
                expected = model.eval()(ids, attention_mask=batch["attention_mask"]).logits[places[:, 0], places[:, 1]]
                torch.testing.assert_close(masked_logits(model, batch, places), expected)

    def test_byte_level_pieces_that_start_a_word(self) -> None:
        pieces = ["<s>", "</s>", "<mask>", "Ġfilm", "film", "Ġ,", "Ġ7", "Ġ", "ĠìĺģíĻĶ"]
        built = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
        built.decoder = decoders.ByteLevel()
        fast = PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>", eos_token="</s>", mask_token="<mask>")
        assert whole_words(fast) == {3: "film", 8: "영화"}

    def test_a_model_without_the_head(self, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path) -> None:
        plain = save_model(tiny_bert(), tmp_path / "plain")
        with pytest.raises(ToolkitError, match="has no masked-language-model head"):
            masked_words(plain, tmp_path)
