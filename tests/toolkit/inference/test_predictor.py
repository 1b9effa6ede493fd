"""A prediction is the model's own answer, in the order of the inputs, whatever stands beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.data import rows
from toolkit.bundle.format import new_manifest, open_bundle, write_bundle
from toolkit.data.tokenization import Batch
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import (
    LabelScore,
    Predictor,
    check_batch_invariance,
    check_input,
    check_inputs,
    open_predictor,
)
from toolkit.tasks import Task

TEXTS = [text for text, _ in rows(40, seed=21)]


@pytest.fixture(scope="module")
def predictor(tiny_student: Path) -> Predictor:
    return open_predictor(tiny_student)


def test_logits_are_the_model_s_own(predictor: Predictor, tiny_student: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(tiny_student).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    with torch.inference_mode():
        alone = [model(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt")).logits for text in TEXTS]
    actual = predictor.logits(predictor.encoder.encode(TEXTS))
    np.testing.assert_allclose(actual, torch.cat(alone).numpy(), atol=1e-5)
    assert actual.std() > 0.1  # the model tells its inputs apart, so a wrong order would show


SINGLE, PAIR = Task("auto", ("a", "b")), Task("auto", ("a", "b"), pair_column="text_pair")


@pytest.mark.parametrize(("task", "text", "pair"), [(SINGLE, "", None), (SINGLE, " \n", None), (PAIR, "", " ")])
def test_an_empty_text_is_refused(task: Task, text: str, pair: str | None) -> None:
    with pytest.raises(ToolkitError, match="the text is empty"):
        check_input(task, text, pair)
    check_input(task, f"{text}a", pair)


def test_a_pair_is_for_a_task_on_pairs_and_a_single_text_is_not() -> None:
    check_input(PAIR, "a", "b")
    with pytest.raises(ToolkitError, match="a second text: the task auto is about single texts"):
        check_input(SINGLE, "a", "b")
    with pytest.raises(ToolkitError, match="is about pairs of texts, and this is one text") as caught:
        check_input(PAIR, "a")
    assert caught.value.fix == "--pair TEXT"


def test_bytes_and_values_that_are_no_text_are_refused() -> None:
    with pytest.raises(ToolkitError, match=r"texts\[1\]: nan is no text"):
        check_inputs(SINGLE, ["a", float("nan")], None)  # type: ignore[list-item]
    with pytest.raises(ToolkitError, match="is not UTF-8"):
        check_input(SINGLE, "caf\udce9")  # as Python reads such an argument
    with pytest.raises(ToolkitError, match="is not UTF-8"):
        check_input(PAIR, "a", "caf\udce9")


def test_labels_are_ranked_for_each_text(predictor: Predictor) -> None:
    scores, labels = predictor.predict(TEXTS), predictor.task.labels
    for row, answer, best in zip(scores, predictor.classify(TEXTS), predictor.classify(TEXTS, top_k=1), strict=True):
        assert answer == sorted(map(LabelScore, labels, row), key=lambda label: -label.score)
        assert best == answer[:1]
    assert predictor.classify([]) == []


def test_texts_that_cannot_be_classified_are_named(predictor: Predictor) -> None:
    for texts, pairs, problem in (
        ("one text", None, "texts is one text"),
        (["a"], "b", "pairs is one text"),
        (["a", "b"], ["c"], "2 texts and 1 pairs"),
        (["a", " "], None, r"texts\[1\]: the text is empty"),
        (["a"], ["b"], r"texts\[0\]: a second text: the task auto is about single texts"),
    ):
        with pytest.raises(ToolkitError, match=problem):
            predictor.classify(texts, pairs)
    with pytest.raises(ToolkitError, match="is about pairs of texts") as caught:
        check_inputs(PAIR, ["a"], None)
    assert caught.value.fix == "pairs=[...], a second text for each"


def test_order_is_kept_whatever_the_batch_size(predictor: Predictor) -> None:
    encoded = predictor.encoder.encode(TEXTS)
    by_size = {size: predictor.logits(encoded, batch_size=size) for size in (1, 7, 64)}
    assert np.abs(by_size[1] - np.roll(by_size[1], 1, axis=0)).max() > 0.1
    np.testing.assert_allclose(by_size[7], by_size[1], atol=1e-5)
    np.testing.assert_allclose(by_size[64], by_size[1], atol=1e-5)


def test_pairs_reach_the_model_as_pairs(predictor: Predictor, tiny_student: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(tiny_student).eval()
    inputs = AutoTokenizer.from_pretrained(tiny_student)("a good film", "the plot is dull", return_tensors="pt")
    inputs["token_type_ids"] = torch.tensor([[0] * 5 + [1] * 5])
    with torch.inference_mode():
        expected = model(**inputs).logits.softmax(-1).numpy()
    np.testing.assert_allclose(predictor.predict(["a good film"], ["the plot is dull"]), expected, atol=1e-5)


def test_scores_are_probabilities(predictor: Predictor) -> None:
    actual = predictor.predict(TEXTS)
    assert actual.shape == (40, 2)
    np.testing.assert_allclose(actual.sum(axis=1), 1.0)


def test_nothing_in_gives_nothing_out(predictor: Predictor) -> None:
    assert predictor.predict([]).shape == (0, 2)


def test_regression_scores_are_the_number_itself(
    tmp_path: Path, tiny_bert: Callable[..., object], save_model: Callable[..., Path]
) -> None:
    task = Task("auto", ("score",), kind="regression", metrics=("pearson",))
    entries = new_manifest(
        "student", task.to_dict(), max_length=32, parent=None, made_from={}, config={}, seed=0, data={}
    )
    with write_bundle(tmp_path / "out", entries) as staging:
        save_model(tiny_bert(id2label={0: "score"}, label2id={"score": 0}), staging)
    predictor = open_predictor(tmp_path / "out")
    logits = predictor.logits(predictor.encoder.encode(TEXTS))
    np.testing.assert_array_equal(predictor.predict(TEXTS), logits.astype(np.float64))


def test_a_damaged_bundle_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny_student, tmp_path / "broken"))
    raw = bytearray((broken / "model.safetensors").read_bytes())
    raw[len(raw) // 2] ^= 1
    (broken / "model.safetensors").write_bytes(raw)
    with pytest.raises(ToolkitError, match=r"model\.safetensors is damaged"):
        open_predictor(broken)


class NeighbourDependent:
    """Gives the last of several inputs other logits than it has alone, as a wrong int8 kernel does."""

    def __init__(self, by: float) -> None:
        self.by, self.shapes = by, list[tuple[int, ...]]()

    def run(self, batch: Batch) -> np.ndarray:
        self.shapes.append(batch["input_ids"].shape)
        sums = batch["input_ids"].sum(axis=1).astype(np.float32)
        logits = np.stack([1e-4 * sums, -1e-4 * sums], axis=1)
        logits[-1] += self.by * (len(logits) > 1)
        return logits


@pytest.mark.parametrize(
    ("precision", "by", "refused"), [("int8", 0.02, True), ("int8", 0.0, False), ("fp32", 0.02, False)]
)
def test_int8_that_depends_on_its_company_is_not_run(
    precision: str, by: float, refused: bool, tiny_student: Path
) -> None:
    bundle = open_bundle(tiny_student)
    bundle = replace(bundle, manifest=bundle.manifest | {"precision": precision})
    runtime = NeighbourDependent(by)
    with pytest.raises(ToolkitError, match="other scores in a batch than alone") if refused else nullcontext():
        check_batch_invariance(Predictor(bundle, runtime))
    if precision == "int8":
        assert runtime.shapes[-1] == (8, bundle.max_length)
    else:
        assert not runtime.shapes
