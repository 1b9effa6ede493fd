"""Gates by hand, and measurements of runtimes that are wrong in known ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.verify import GraphVerifier, Measurement, batch_difference, gates_for, gates_json, measure, require_gates
from toolkit.bundle.format import open_bundle
from toolkit.data.datasets import Split
from toolkit.data.tokenization import Batch, EncodedTexts
from toolkit.errors import GateError
from toolkit.inference.runtimes import OnnxRuntime, TorchRuntime, batched_logits
from toolkit.tasks import Task

TASK = Task("auto", ("negative", "positive"), metrics=("accuracy",))
GOOD = Measurement(
    rows=200, metric="accuracy", metrics={"accuracy": 0.83}, reference_metrics={"accuracy": 0.832}, agreement=0.99,
    errors=0.168, max_difference=0.05, p99_difference=0.02, max_batch_difference=0.0, logit_spread=1.0,
    logits=np.zeros((2, 2)),
)  # fmt: skip
SAME = replace(GOOD, agreement=1.0, max_difference=1e-6)


def missed(measured: Measurement, precision: str, max_drop: float = 0.5) -> list[str]:
    return [gate.name for gate in gates_for(measured, precision, max_drop) if not gate.passed]


def test_good_figures_pass() -> None:
    assert missed(GOOD, "int8") == []
    assert missed(SAME, "fp32") == []
    require_gates(gates_for(GOOD, "int8", 0.5), "model")


def test_int8_gates() -> None:
    worse = replace(GOOD, metrics={"accuracy": 0.82})  # 83.2 - 82.0 = 1.2 points
    assert missed(worse, "int8") == ["accuracy lost, points"]
    assert missed(worse, "int8", max_drop=1.3) == []
    assert missed(replace(GOOD, metrics={"accuracy": 0.9}), "int8", max_drop=0.0) == []
    assert missed(replace(GOOD, max_batch_difference=2e-5), "int8") == ["largest difference by batch or padding"]
    assert missed(replace(GOOD, metrics={"accuracy": float("nan")}), "int8") == ["accuracy lost, points"]


def test_int8_gates_on_labels_and_logits() -> None:
    assert missed(replace(GOOD, agreement=0.969), "int8") == ["label agreement, %"]
    assert missed(replace(GOOD, agreement=0.969), "int8", max_drop=1.6) == []  # 100 - 2 * 1.6 = 96.8
    assert missed(replace(GOOD, p99_difference=0.51), "int8") == ["99th percentile of logit differences"]
    assert missed(replace(GOOD, p99_difference=0.51, logit_spread=1.1), "int8") == []
    assert missed(replace(GOOD, max_difference=2.01), "int8") == ["largest logit difference"]
    assert missed(replace(GOOD, max_difference=float("nan")), "int8") == ["largest logit difference"]


def test_labels_may_flip_for_a_sixth_of_the_errors() -> None:
    unsure = replace(GOOD, agreement=0.9576, errors=0.3176)  # 100 - 31.76 / 6 = 94.7
    assert missed(unsure, "int8") == []
    assert missed(replace(unsure, agreement=0.946), "int8") == ["label agreement, %"]
    assert missed(replace(unsure, errors=0.18), "int8") == ["label agreement, %"]  # 97 for all with fewer errors
    assert missed(unsure, "fp32") == ["label agreement, %", "largest logit difference"]


def test_gates_of_a_trimmed_vocabulary() -> None:
    far = replace(GOOD, max_difference=9.0, p99_difference=3.0)  # a word in other pieces is another input
    for precision in ("fp32", "fp16", "int8"):
        assert missed_when_trimmed(far, precision) == []
        assert missed_when_trimmed(replace(far, agreement=0.9), precision) == ["label agreement, %"]
        assert missed_when_trimmed(replace(far, metrics={"accuracy": 0.82}), precision) == ["accuracy lost, points"]
    batch = replace(far, max_batch_difference=1e-3)
    assert missed_when_trimmed(batch, "int8") == ["largest difference by batch or padding"]
    assert missed_when_trimmed(batch, "fp32") == []


def missed_when_trimmed(measured: Measurement, precision: str) -> list[str]:
    return [gate.name for gate in gates_for(measured, precision, 0.5, trimmed=True) if not gate.passed]


def test_fp16_gates() -> None:
    close = replace(GOOD, max_difference=0.04, agreement=0.995)
    assert missed(close, "fp16") == []
    assert missed(replace(close, max_difference=0.06), "fp16") == ["largest logit difference"]
    assert missed(replace(close, agreement=0.98), "fp16") == ["label agreement, %"]


def test_fp32_gates() -> None:
    assert missed(replace(SAME, agreement=0.999), "fp32") == ["label agreement, %"]
    assert missed(replace(SAME, max_difference=2e-4), "fp32") == ["largest logit difference"]
    assert missed(replace(SAME, max_difference=float("nan")), "fp32") == ["largest logit difference"]
    assert missed(replace(SAME, agreement=None), "fp32") == []  # regression has no labels to agree on


def test_a_missed_gate_names_figure_bound_and_way_out() -> None:
    with pytest.raises(GateError) as caught:
        require_gates(gates_for(replace(GOOD, metrics={"accuracy": 0.82}), "int8", 0.5), "runs/student")
    assert caught.value.exit_code == 1
    message = str(caught.value)
    assert "runs/student misses 1 of 5 gates; nothing was written" in message
    assert "accuracy lost, points: 1.2, expected at most 0.5" in message
    assert "--max-drop 1.2" in message


def test_the_suggested_drop_is_enough() -> None:
    for accuracy in (0.8, 0.8123, 0.7999):
        measured = replace(GOOD, metrics={"accuracy": accuracy})
        with pytest.raises(GateError) as caught:
            require_gates(gates_for(measured, "int8", 0.5), "model")
        assert missed(measured, "int8", float(caught.value.fix.split()[1])) == []


@pytest.mark.parametrize("agreement", [0.9576, 0.969, 0.5])
def test_the_suggested_drop_is_enough_where_labels_change_and_accuracy_does_not(agreement: float) -> None:
    flipped = replace(GOOD, agreement=agreement)
    gate = next(gate for gate in gates_for(flipped, "int8", 0.5) if not gate.passed)
    suggested = float(gate.fix.split()[1])
    assert missed(flipped, "int8", suggested) == []
    assert missed(flipped, "int8", suggested - 0.1) == ["label agreement, %"]


def test_everything_is_recorded() -> None:
    record = gates_json(GOOD, gates_for(GOOD, "int8", 0.5))
    assert record["rows"] == 200
    assert record["drop"] == pytest.approx(0.2)
    assert record["p99_difference"] == 0.02
    assert [verdict["passed"] for verdict in record["verdicts"]] == [True] * 5


class Linear:
    """Logits [B, 2] = (sum, -sum) of the real ids, plus an error that depends on the batch's width."""

    def __init__(self, error: float = 0.0, width: float = 0.0, swap: bool = False) -> None:
        self.error, self.width, self.swap = error, width, swap

    def run(self, batch: Batch) -> np.ndarray:
        total = (batch["input_ids"] * batch["attention_mask"]).sum(axis=1).astype(np.float32)
        total = total + self.error + self.width * batch["input_ids"].shape[1]
        logits = np.stack([total, -total], axis=1)
        return logits[:, ::-1] if self.swap else logits


IDS = [np.array(ids, dtype=np.int64) for ids in ([1], [2, -5], [-3, -4, 1], [6, 1])]
ENCODED = EncodedTexts(ids=IDS, type_ids=[np.zeros_like(ids) for ids in IDS], truncated=np.zeros(4, bool), pad_id=0)
SPLIT = Split(["a", "b", "c", "d"], None, np.array([0, 1, 1, 1]), "here")  # sums 1, -3, -6, 7: three of four right


def compare(reference: Linear, exported: Linear, task: Task = TASK, split: Split = SPLIT) -> Measurement:
    return measure(task, split, batched_logits(reference, ENCODED), ENCODED, exported, width=8)


def test_measured_by_hand() -> None:
    measured = compare(Linear(), Linear(error=-2.0))  # sums -1, -5, -8, 5
    assert measured.reference_metrics == {"accuracy": 0.75}
    assert measured.metrics == {"accuracy": 0.5}
    assert measured.drop == 25.0
    assert measured.agreement == 0.75
    assert measured.errors == 0.25
    assert measured.max_difference == 2.0
    assert measured.max_batch_difference == 0.0


def test_swapped_labels_are_caught() -> None:
    measured = compare(Linear(), Linear(swap=True))
    assert measured.agreement == 0.0
    assert missed(measured, "int8")[:2] == ["accuracy lost, points", "label agreement, %"]
    assert missed(measured, "fp32") == ["label agreement, %", "largest logit difference"]


def test_dependence_on_padding_is_caught() -> None:
    leaky = Linear(width=0.5)
    batched = leaky.run(ENCODED.batch(range(4)))  # width 3
    # alone the widths are 1, 2, 3, 2; padded 8: the largest difference is 0.5 * (8 - 3)
    assert batch_difference(leaky, ENCODED, batched, width=8) == 2.5
    assert batch_difference(Linear(), ENCODED, Linear().run(ENCODED.batch(range(4))), width=8) == 0.0


def test_regression_has_no_agreement() -> None:
    task = Task("auto", ("score",), kind="regression", metrics=("pearson",))

    class Score(Linear):
        def run(self, batch: Batch) -> np.ndarray:
            return super().run(batch)[:, :1]

    split = Split(["a", "b", "c", "d"], None, np.array([1.0, -3.0, -6.0, 7.0]), "here")
    measured = compare(Score(), Score(error=1.0), task, split)
    assert (measured.agreement, measured.errors) == (None, 0.0)
    assert measured.drop == pytest.approx(0.0, abs=1e-9)
    assert [gate.name for gate in gates_for(measured, "fp32", 0.5)] == ["largest logit difference"]


def test_the_verifier_reads_each_side_with_its_own_tokenizer(tiny_student: Path, tiny_onnx: Path) -> None:
    """The reference logits come from the source's tokenizer, those of the graph from the tokenizer beside it."""
    source = open_bundle(tiny_student)
    split = Split(["a good film", "a dull plot", "good"], None, np.array([1, 0, 1]), "here")
    verifier = GraphVerifier(
        source, split, TorchRuntime.load(tiny_student), tiny_onnx, max_drop=0.5, trimmed=False
    )  # fmt: skip
    measured, gates = verifier.verify(OnnxRuntime(tiny_onnx / "model.onnx", threads=1), "fp32")
    assert measured.rows == 3
    assert measured.max_difference < 1e-5
    assert [gate.name for gate in gates] == ["label agreement, %", "largest logit difference"]
    trimmed = GraphVerifier(source, split, TorchRuntime.load(tiny_student), tiny_onnx, max_drop=7.0, trimmed=True)
    _, gates = trimmed.verify(OnnxRuntime(tiny_onnx / "model.onnx", threads=1), "fp32")
    assert [(gate.name, gate.bound) for gate in gates] == [("accuracy lost, points", 7.0), ("label agreement, %", 86.0)]
