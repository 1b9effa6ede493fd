"""A bundle with a baseline, which its own model gives rows."""

from __future__ import annotations

import shutil
from pathlib import Path

from toolkit.bundle.baseline import write_baseline
from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.inference.drift import Traits, make_baseline
from toolkit.inference.predictor import Predictor, open_predictor


def traits_of(predictor: Predictor, texts: list[str]) -> Traits:
    encoder = predictor.encoder
    encoded = encoder.encode(texts)
    return Traits.of(predictor.task.kind, predictor.logits(encoded), encoded.ids, encoder.unknown_id)


def save_with_baseline(source: Path, out: Path, table: list[tuple[str, int]]) -> Path:
    parent = open_bundle(source)
    manifest = {key: value for key, value in parent.manifest.items() if key not in ("files", "digest")}
    traits = traits_of(open_predictor(source, threads=1), [text for text, _ in table])
    with write_bundle(out, manifest) as staging:  # type: ignore[arg-type]
        for name in parent.manifest["files"]:
            shutil.copy(source / name, staging / name)
        write_baseline(staging, make_baseline(traits, "dev", "0" * 64))
    return out
