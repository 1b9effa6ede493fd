"""Speed of augmentation: seconds per word, and the ratio of turns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.distillation.augment_speed import Turn, _ratio, sentences, store, timed


def test_ratios_of_turns_by_hand() -> None:
    turns = [Turn((0.01, 0.02), (0.1, 0.4)), Turn((0.02, 0.04), (0.1, 0.4)), Turn((0.01, 0.02), (0.3, 0.2))]
    assert _ratio(turns) == {
        "words_per_s": 100.0, "single_words_per_s": 10.0, "ratio": 10.0, "low": 5.0, "high": 30.0, "cpu_ratio": 10.0,
    }  # fmt: skip


def test_time_is_divided_by_the_words_of_the_call() -> None:
    wall, cpu = timed(lambda: sum(range(1_000_000)) and 1000)
    assert 0 < wall < 0.01
    assert 0 <= cpu < 0.01


def test_sentences_come_with_words_of_their_own() -> None:
    texts, words = sentences(3)
    assert len(texts) == len(words) == 3
    assert all(words)
    for text, own in zip(texts, words, strict=True):
        assert all(word.end <= len(text) and text[word.start : word.end].strip() for word in own)


def test_a_part_replaces_only_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "augment.json"
    store(path, speed={"rows": [1]}, memory=[2])
    store(path, memory=[3])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["speed"], content["memory"]) == ({"rows": [1]}, [3])
    assert set(content) == {"speed", "memory", "environment"}
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"memory": [3]}
