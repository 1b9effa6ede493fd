"""The predictor: scores from a bundle, by onnxruntime for `model.onnx` and by PyTorch for `model.safetensors`.

The server runs the ONNX side, which loads neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np

from toolkit.bundle.calibration import Calibration, label_thresholds, logit_scale
from toolkit.bundle.contents import read_baseline, read_calibration, read_file, read_weights
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.bundle.manifest import CONFIG, REQUIRED, TOKENIZER
from toolkit.data.readers import is_text
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.data.tokenizer_bounds import check_tokenizer
from toolkit.errors import ToolkitError
from toolkit.inference.metrics import scores
from toolkit.inference.runtimes import OnnxRuntime, Runtime, TorchRuntime, batched_logits, memory_limit
from toolkit.tasks import Task

PROBE_LENGTHS = range(33, 41)  # tokens of the inputs that are run alone and together
MAX_BATCH_DIFFERENCE = 1e-3  # of logits; a wrong kernel's is a hundred times that, a right kernel's is 0


class LabelScore(NamedTuple):
    """A label and its score: a calibrated probability from 0 to 1, or for regression the number itself."""

    label: str
    score: float


class Classifier:
    """A classifier in memory: its tokenizer, its runtime, its task, the calibration of its scores.

    Attributes:
        task: its name, its labels in the order of the scores, and its kind.
        encoder, runtime: its tokenizer and its model; several threads may use both at once.
        digest: tells it from other models.
    """

    def __init__(
        self, task: Task, encoder: TextEncoder, runtime: Runtime, *, digest: str, calibration: Calibration | None = None
    ) -> None:
        self.task, self.encoder, self.runtime, self.digest = task, encoder, runtime, digest
        self.calibration = calibration
        self.scale = logit_scale(calibration)

    @property
    def thresholds(self) -> np.ndarray | None:
        """The score of each label [C] below which its answers are unsure; None where nothing tells."""
        return label_thresholds(self.calibration, self.task)

    def logits(self, encoded: EncodedTexts, batch_size: int = 32) -> np.ndarray:
        """Compute logits [n, C] float32 of n encoded inputs, in their order, batched by like length."""
        if not len(encoded):
            return np.empty((0, len(self.task.labels)), dtype=np.float32)
        return batched_logits(self.runtime, encoded, batch_size)

    def scores(self, logits: np.ndarray, *, raw: bool = False) -> np.ndarray:
        """Turn logits [n, C] into calibrated scores [n, C] float64; raw ones are the logits as they are."""
        return logits if raw else scores(logits * self.scale, self.task.kind)

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Compute scores [n, C] float64: calibrated probabilities, or the number itself for regression.

        Args:
            texts: n texts; tokens beyond the bundle's `max_length` are cut off.
            pairs: n second texts, or None.
        """
        return self.scores(self.logits(self.encoder.encode(texts, pairs)))

    def classify(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, top_k: int | None = None
    ) -> list[list[LabelScore]]:
        """Rank the labels of each text: n lists of up to C labels with their scores, best first.

        For classification the scores of a text add up to 1. For multi-label each stands for itself, and the labels
        above 0.5 are the answer. For regression there is one, whose score is the number.

        Args:
            texts: n texts, none of them blank; tokens beyond the bundle's `max_length` are cut off.
            pairs: n second texts, where the task is about pairs.
            top_k: labels of each text; None gives all.

        Raises:
            ToolkitError: texts that the task does not take, named by their numbers from 0.
        """
        check_inputs(self.task, texts, pairs)
        return [best_labels(self.task, row, top_k) for row in self.predict(texts, pairs)]


class Predictor(Classifier):
    """A bundle in memory.

    Attributes:
        bundle: the bundle.
        baseline: what its answers to dev rows were like; None where it holds none.

    Raises:
        ToolkitError: the tokenizer or the model cannot be loaded.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle = bundle
        files = {name: read_file(bundle, name) for name in REQUIRED}
        check_tokenizer(files[TOKENIZER], bundle.path / TOKENIZER)
        encoder = TextEncoder(bundle.path, bundle.max_length, files)
        super().__init__(bundle.task, encoder, runtime, digest=bundle.digest, calibration=read_calibration(bundle))
        self.baseline = read_baseline(bundle)


def best_labels(task: Task, scores: np.ndarray, top_k: int | None = None) -> list[LabelScore]:
    """Rank the labels of an input by its scores [C], best first, and give the first `top_k`."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [LabelScore(task.labels[i], float(scores[i])) for i in order]


def open_predictor(
    path: str | PathLike[str], *, threads: int = 0, device: str = "cpu", memory_pattern: bool = True
) -> Predictor:
    """Verify a bundle and load it: model.onnx by onnxruntime, model.safetensors by PyTorch.

    Args:
        path: a bundle.
        threads: of the model; 0 takes all cores.
        device: "cpu" or "cuda".
        memory_pattern: as OnnxRuntime takes it.

    Raises:
        ToolkitError: the bundle is damaged, or the packages to run it are missing.
    """
    bundle = open_bundle(path)
    if bundle.weights.suffix != ".onnx":
        return Predictor(bundle, TorchRuntime.load(bundle.path, device, threads, _model_files(bundle)))
    with contextlib.nullcontext() if device == "cuda" else memory_limit(memory_of(bundle)):
        predictor = Predictor(
            bundle,
            OnnxRuntime(
                bundle.weights, threads=threads, device=device, memory_pattern=memory_pattern,
                content=read_weights(bundle),
            ),
        )  # fmt: skip
        check_batch_invariance(predictor)
    return predictor


def _model_files(bundle: Bundle) -> dict[str, bytes] | None:
    """Read what PyTorch makes a model of, verified; None where it takes more files than two."""
    weights = read_weights(bundle)
    return None if weights is None else {CONFIG: read_file(bundle, CONFIG), bundle.weights.name: weights}


def check_input(task: Task, text: str, pair: str | None = None) -> None:
    """Refuse an input that the task does not take, one without any text, and text that no tokenizer takes.

    Raises:
        ToolkitError: a pair for a task of single texts or the reverse, what is no text, as a missing cell is NaN, blank
            texts, or bytes that are not UTF-8.
    """
    if pair is not None and task.pair_column is None:
        raise ToolkitError(f"a second text: the task {task.name} is about single texts", fix="leave --pair out")
    if pair is None and task.pair_column is not None:
        raise ToolkitError(f"the task {task.name} is about pairs of texts, and this is one text", fix="--pair TEXT")
    texts = [text] if pair is None else [text, pair]
    if odd := [part for part in texts if not isinstance(part, str)]:
        raise ToolkitError(f"{odd[0]!r} is no text", expected="a text to classify")
    if not any(map(str.strip, texts)):
        raise ToolkitError("the text is empty", expected="a text to classify")
    if broken := [part for part in texts if part.strip() and not is_text(part)]:
        raise ToolkitError(f"{broken[0]!r} is not UTF-8", expected="text in UTF-8")


def check_inputs(task: Task, texts: Sequence[str], pairs: Sequence[str] | None) -> None:
    """Refuse texts that the task does not take.

    Raises:
        ToolkitError: one text instead of a list, other numbers of texts and second texts, or an input that
            `check_input` refuses.
    """
    for name, values in {"texts": texts, "pairs": pairs}.items():
        if isinstance(values, str):
            raise ToolkitError(f"{name} is one text", expected="a list of texts", fix=f"{name}=[text]")
    if pairs is None and task.pair_column is not None:
        raise ToolkitError(f"the task {task.name} is about pairs of texts", fix="pairs=[...], a second text for each")
    if pairs is not None and len(pairs) != len(texts):
        raise ToolkitError(f"{len(texts)} texts and {len(pairs)} pairs", expected="a second text for each text")
    for i, text in enumerate(texts):
        try:
            check_input(task, text, None if pairs is None else pairs[i])
        except ToolkitError as error:
            fix = error.fix.replace("--pair", "pairs")
            raise ToolkitError(f"texts[{i}]: {error.problem}", expected=error.expected, fix=fix) from None


def memory_of(bundle: Bundle) -> int:
    """Bound the bytes that a bundle's model may take while it is loaded and tried out."""
    return 8 * 2**30 + 4 * bundle.weight_bytes


def check_batch_invariance(predictor: Predictor) -> None:
    """Check that int8 logits do not depend on the other rows of a batch. Other precisions are not checked.

    The export proves it on its own machine only. onnxruntime 1.21 to 1.24 multiply int8 wrongly on CPUs with AMX, in
    every 32nd row of a product and the last columns of a width that is no multiple of 16, such as TinyBERT4's
    (github.com/microsoft/onnxruntime/pull/27671). Inputs of random pieces, longer than 32 tokens where the model takes
    that, put real tokens there.

    Raises:
        ToolkitError: the logits of an input alone and in a batch differ.
    """
    if predictor.bundle.precision != "int8":
        return
    encoder, random = predictor.encoder, np.random.default_rng(0)
    ids = [random.integers(0, encoder.vocabulary_size, min(length, encoder.max_length)) for length in PROBE_LENGTHS]
    encoded = EncodedTexts(ids, [np.zeros_like(row) for row in ids], np.zeros(len(ids), dtype=bool), encoder.pad_id)
    alone, together = (predictor.logits(encoded, batch_size) for batch_size in (1, len(ids)))
    difference = float(np.abs(alone - together).max())
    if not difference <= MAX_BATCH_DIFFERENCE:
        import onnxruntime

        raise ToolkitError(
            f"{predictor.bundle.path}: onnxruntime {onnxruntime.__version__} on this CPU gives a text other scores in "
            f"a batch than alone: logits differ by {difference:.2g}",
            expected=f"at most {MAX_BATCH_DIFFERENCE:g}, as on the machine that exported it",
            fix="another release of onnxruntime: 1.21 to 1.24 multiply int8 wrongly on CPUs with AMX",
        )
