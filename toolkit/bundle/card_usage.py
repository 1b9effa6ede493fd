"""The part of a bundle's card that says how to load it: programs and commands that run as they stand in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from toolkit.bundle.manifest import Manifest
from toolkit.tasks import TaskRecord

TEXT, PAIR = "the text to classify", "the text beside it"


def usage(manifest: Manifest, folder: Path) -> str:
    """Write how to load a bundle whose files lie in a folder."""
    onnx = next((name for name in ("model.onnx", "1/model.onnx") if (folder / name).is_file()), None)
    task = manifest["task"]
    if task is None:
        parts = _general(manifest)
    elif onnx is None:
        parts = _pytorch(task, manifest["max_length"])
    else:
        parts = _onnx(task, manifest["max_length"], onnx, manifest["precision"])
    return "\n\n".join(["## How to load it", "Each piece runs in this folder.", *parts])


def _general(manifest: Manifest) -> Iterator[str]:
    yield _program("transformers", f"""
        from transformers import AutoModel, AutoTokenizer

        tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModel.from_pretrained(".").eval()
        inputs = tokenizer({_text(None)}, truncation=True, max_length={manifest["max_length"]}, return_tensors="pt")
        print(model(**inputs).last_hidden_state.shape)
    """)  # fmt: skip
    yield (
        "It has no labels yet: `toolkit distill --teacher DIR --task TASK --init . --out DIR` teaches it a task, and "
        "`toolkit finetune --model . --task TASK --out DIR` makes a classifier of it."
    )


def _pytorch(task: TaskRecord, length: int) -> Iterator[str]:
    every = ", top_k=None" if task["kind"] == "multi_label" else ""
    yield _program("transformers", f"""
        from transformers import pipeline

        classify = pipeline("text-classification", model=".")
        print(classify({_pipeline_text(task)}, truncation=True, max_length={length}{every}))
    """)  # fmt: skip
    yield _program("optimum, beside transformers 4, which makes an ONNX graph as it loads", f"""
        from optimum.onnxruntime import ORTModelForSequenceClassification
        from transformers import AutoTokenizer

        model = ORTModelForSequenceClassification.from_pretrained(".", export=True)
        tokenizer = AutoTokenizer.from_pretrained(".")
        inputs = tokenizer({_text(task)}, truncation=True, max_length={length}, return_tensors="pt")
        print(model(**inputs).logits)
    """)  # fmt: skip
    yield _toolkit(task)
    yield _shell(
        "curl: an ONNX export is served",
        "toolkit export . --int8 --data DATA --out ../int8\ntoolkit serve ../int8\n" + _curl(task),
    )


def _onnx(task: TaskRecord, length: int, model: str, precision: str) -> Iterator[str]:
    yield _program("transformers' tokenizer, and onnxruntime: transformers does not run ONNX by itself", f"""
        import onnxruntime
        from transformers import AutoTokenizer

        tokenizer, session = AutoTokenizer.from_pretrained("."), onnxruntime.InferenceSession("{model}")
        inputs = tokenizer({_text(task)}, truncation=True, max_length={length}, return_tensors="np")
        names = [tensor.name for tensor in session.get_inputs()]
        print(session.run(["logits"], {{name: inputs[name].astype("int64") for name in names}})[0])
    """)  # fmt: skip
    if model == "model.onnx":
        yield _program("optimum, beside transformers 4", f"""
            from optimum.onnxruntime import ORTModelForSequenceClassification
            from transformers import AutoTokenizer

            model = ORTModelForSequenceClassification.from_pretrained(".", file_name="model.onnx")
            tokenizer = AutoTokenizer.from_pretrained(".")
            inputs = tokenizer({_text(task)}, truncation=True, max_length={length}, return_tensors="pt")
            print(model(**inputs).logits)
        """)  # fmt: skip
    else:
        yield (
            "This folder is a model of a Triton Inference Server's repository: `tritonserver --model-repository ..`. "
            "optimum looks for `model.onnx` at the top, so it does not open it."
        )
    yield _toolkit(task)
    yield _shell("curl", f"toolkit serve .\n{_curl(task)}")
    if precision == "int8":
        yield (
            "onnxruntime 1.21 to 1.24 multiply int8 wrongly on CPUs with AMX; any other release from 1.20 on does not. "
            "This toolkit checks that as it loads the model."
        )


def _toolkit(task: TaskRecord) -> str:
    pair = f" --pair '{PAIR}'" if task["pair"] else ""
    return _shell(
        "This toolkit: `pip install 'tinybert-toolkit[export,serve]'`",
        f"toolkit inspect .\ntoolkit predict . '{TEXT}'{pair}",
    )


def _curl(task: TaskRecord) -> str:
    inputs = json.dumps({"inputs": [TEXT, PAIR] if task["pair"] else TEXT})
    return f"curl -s localhost:8080/predict -H 'content-type: application/json' -d '{inputs}'"


def _text(task: TaskRecord | None) -> str:
    return f'"{TEXT}", "{PAIR}"' if task is not None and task["pair"] else f'"{TEXT}"'


def _pipeline_text(task: TaskRecord) -> str:
    return f'{{"text": "{TEXT}", "text_pair": "{PAIR}"}}' if task["pair"] else f'"{TEXT}"'


def _program(title: str, code: str) -> str:
    lines = code.strip("\n").rstrip().split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join([f"{title}:", "", "```python", *(line[indent:] for line in lines), "```"])


def _shell(title: str, commands: str) -> str:
    return f"{title}:\n\n```sh\n{commands}\n```"
