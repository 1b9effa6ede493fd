"""Bundles whose model is plain arithmetic on token ids, so that every answer can be worked out by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.tasks import Task

REGRESSION = Task("auto", ("score",), kind="regression", metrics=("spearman",))
INPUTS = "int64[B, L] input_ids, int64[B, L] attention_mask"
HEADER = '<ir_version: 8, opset_import: ["" : 17]> model'
# logit = sum of the ids: no rounding, no influence of padding
SUM = f"""{HEADER} ({INPUTS}) => (float[B, 1] logits) {{
    axis = Constant <value_ints = [1]> ()
    real = Mul (input_ids, attention_mask)
    total = ReduceSum <keepdims = 1> (real, axis)
    logits = Cast <to = 1> (total)
}}"""
# logits = 0 to 29, whatever the input: the last label is the best
RANKS = f"""{HEADER} ({INPUTS}) => (float[B, 30] logits) {{
    axis = Constant <value_ints = [1]> ()
    start = Constant <value_float = 0.0> ()
    end = Constant <value_float = 30.0> ()
    step = Constant <value_float = 1.0> ()
    ranks = Range (start, end, step)
    real = Mul (input_ids, attention_mask)
    total = ReduceSum <keepdims = 1> (real, axis)
    exact = Cast <to = 1> (total)
    nothing = Sub (exact, exact)
    logits = Add (nothing, ranks)
}}"""
# logit = twice the sum: tells which of two models answered
TWICE = SUM.replace("logits = Cast <to = 1> (total)", "once = Cast <to = 1> (total)\n    logits = Add (once, once)")
# logit = log(60 - sum): not a number for longer inputs
LOG = f"""{HEADER} ({INPUTS}) => (float[B, 1] logits) {{
    axis = Constant <value_ints = [1]> ()
    bound = Constant <value_float = 60.0> ()
    real = Mul (input_ids, attention_mask)
    total = ReduceSum <keepdims = 1> (real, axis)
    left = Cast <to = 1> (total)
    rest = Sub (bound, left)
    logits = Log (rest)
}}"""
# logit = sum of table[id]; the table has 40 rows, so larger ids make onnxruntime fail
SMALL_TABLE = f"""{HEADER} ({INPUTS}) => (float[B, 1] logits) {{
    axis = Constant <value_ints = [1]> ()
    start = Constant <value_int = 0> ()
    end = Constant <value_int = 40> ()
    step = Constant <value_int = 1> ()
    table = Range (start, end, step)
    real = Mul (input_ids, attention_mask)
    looked = Gather (table, real)
    total = ReduceSum <keepdims = 1> (looked, axis)
    logits = Cast <to = 1> (total)
}}"""


def slow_graph(products: int) -> str:
    """logit = sum of the ids, after products of 400 x 400 zeros, which the input decides: nothing folds them."""
    lines = "\n".join(f"    x{i + 1} = MatMul (x{i}, x{i})" for i in range(products))
    return f"""{HEADER} ({INPUTS}) => (float[B, 1] logits) {{
    axis = Constant <value_ints = [1]> ()
    shape = Constant <value_ints = [400, 400]> ()
    zeros = ConstantOfShape (shape)
    real = Mul (input_ids, attention_mask)
    total = ReduceSum <keepdims = 1> (real, axis)
    exact = Cast <to = 1> (total)
    all = ReduceSum <keepdims = 0> (exact)
    x0 = Mul (zeros, all)
{lines}
    nothing = ReduceSum <keepdims = 0> (x{products})
    logits = Add (exact, nothing)
}}"""


def rewritten(source: Path, out: Path, **changes: Callable[[np.ndarray], np.ndarray]) -> Path:
    """An ONNX bundle with weights changed, by the end of their name, and sealed again."""
    import onnx

    parent = open_bundle(source)
    model = onnx.load(parent.weights)
    for end, change in changes.items():
        (tensor,) = [weight for weight in model.graph.initializer if weight.name.endswith(end.replace("__", "."))]
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(change(values).astype(values.dtype), tensor.name))
    manifest = {key: value for key, value in parent.manifest.items() if key not in ("files", "digest")}
    with write_bundle(out, manifest) as staging:
        for name in parent.manifest["files"]:
            shutil.copy(source / name, staging / name)
        onnx.save(model, staging / "model.onnx")
    return out


def save_arithmetic(out: Path, tokenizer: Tokenizer, graph: str, max_length: int = 32, task: Task = REGRESSION) -> Path:
    """A sealed bundle around an ONNX graph in ONNX's own text form."""
    import onnx

    model = onnx.parser.parse_model(graph)
    onnx.checker.check_model(model)
    manifest = {
        "kind": "onnx", "task": task.to_dict(),
        "precision": "fp32", "max_length": max_length, "parent": None, "config": {}, "seed": 0, "metrics": {},
    }  # fmt: skip
    with write_bundle(out, manifest) as staging:
        onnx.save(model, staging / "model.onnx")
        tokenizer.save(str(staging / "tokenizer.json"))
        (staging / "config.json").write_text('{"model_type": "bert", "pad_token_id": 0}')
    return out
