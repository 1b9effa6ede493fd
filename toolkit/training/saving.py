"""Trained models written as bundles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.bundle.format import Bundle, open_bundle, write_bundle
from toolkit.bundle.manifest import Manifest
from toolkit.models.loading import Source
from toolkit.training.distributed import distributed_state


def write_model(
    out: str, manifest: Manifest, model: Any, source: Source, more: Callable[[Path], None] | None = None
) -> Bundle:
    """Write a model with its source's tokenizer as a bundle: the main process writes, the others wait for it.

    `more` gets the bundle's folder and writes further files into it.
    """
    state = distributed_state()
    if state.is_main_process:
        with write_bundle(out, manifest) as staging:
            save_model(model, source, staging)
            if more:
                more(staging)
    state.wait_for_everyone()
    return open_bundle(out)


def save_model(model: Any, source: Source, staging: Path) -> None:
    """Write config.json, model.safetensors and the source's tokenizer files into a bundle's staging directory."""
    model.save_pretrained(staging, safe_serialization=True)
    for path in source.tokenizer_dir.iterdir():
        if path.name != "config.json":
            (staging / path.name).write_bytes(path.read_bytes())
