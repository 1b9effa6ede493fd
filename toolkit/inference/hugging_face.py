"""Hugging Face classifiers in PyTorch, as they are: a directory that `save_pretrained` wrote, or a name on the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from toolkit.data.tokenization import TextEncoder
from toolkit.errors import ToolkitError, require_packages
from toolkit.inference.predictor import Classifier
from toolkit.inference.runtimes import TorchRuntime
from toolkit.tasks import Kind, Task


def open_hugging_face(name: str, device: str = "cpu", threads: int = 1) -> Classifier:
    """Open a classifier, by default on one CPU for each thread that will ask it; its digest is of weights in memory.

    Args:
        name: its directory, or its name on the hub.
        device: "cpu" or "cuda".
        threads: of PyTorch in this process; 0 leaves them as they are.

    Raises:
        ToolkitError: no such model, one that is no trained classifier, or one with Python code of its own.
    """
    require_packages("torch", "transformers", purpose=f"running {name}")
    import torch

    from toolkit.models.loading import Source, output_names, weights_digest
    from toolkit.models.trial import check_classifier

    with tempfile.TemporaryDirectory() as workdir:
        source = Source(name, Path(workdir))
        model = source.classifier()
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()  # they are the file itself, and would change with it
        check_classifier(model, name)
        encoder = TextEncoder(source.tokenizer_dir, source.stated_length)
    if threads:
        torch.set_num_threads(threads)
    labels = output_names(model.config)
    task = Task("auto", labels, kind=kind_of(model.config.problem_type, len(labels)), max_length=encoder.max_length)
    return Classifier(task, encoder, TorchRuntime(model, device), digest=weights_digest(model))


def kind_of(problem_type: str | None, outputs: int) -> Kind:
    """Name the kind of a Hugging Face classifier; without a type one output is a number, as transformers reads it.

    Raises:
        ToolkitError: several numbers.
    """
    if problem_type is None:
        return "regression" if outputs == 1 else "classification"
    kinds: dict[str, Kind] = {"multi_label_classification": "multi_label", "regression": "regression"}
    kind = kinds.get(problem_type, "classification")
    if kind == "regression" and outputs > 1:
        raise ToolkitError(f"the model gives {outputs} numbers for a text", expected="one number, or labels")
    return kind
