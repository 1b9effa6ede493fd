"""Options of `toolkit score`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.config.base import (
    LOCAL,
    Config,
    argument,
    at_least,
    is_cluster,
    option,
    overwrite_option,
    ray_option,
    required,
    skip_option,
)
from toolkit.config.model_names import URL

OUTPUTS = (".parquet", ".csv", ".jsonl", "")  # "" for a folder of Parquet files
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class ScoreConfig(Config):
    """Options of `toolkit score`."""

    model: str = argument(
        "bundle, a Hugging Face classifier (a directory or a name on the hub), or the URL of an endpoint that ends in "
        "/predict, /classify or /chat/completions", "MODEL",
    )  # fmt: skip
    out: str = required(
        "file to write: .parquet, .csv or .jsonl; without a suffix a folder of .parquet", "Output", "FILE"
    )
    input: tuple[str, ...] = option(
        (), "texts to score: .txt, .csv, .tsv, .jsonl, .json or .parquet, or a glob; hub:NAME:SPLIT or "
        "hub:NAME:CONFIG:SPLIT of the hub or a directory in its layout; may be repeated", "Input", "FILE",
    )  # fmt: skip
    text_column: str | None = option(None, "column of the text [default: guessed, and said]", "Input", "COLUMN")
    pair_column: str | None = option(
        None, "column of the second text, for pairs [default: guessed, and said]", "Input", "COLUMN"
    )
    skip_bad_rows: bool = skip_option("Input")
    threshold: float = option(
        0.0, "score below which an answer counts as unsure; 0 takes the bundle's own, of toolkit calibrate", "Scores"
    )
    fallback: str | None = option(
        None, "who answers what MODEL is unsure of: a larger bundle, a Hugging Face classifier, or the URL of an "
        "endpoint as MODEL's, or NAME= one of them", "Scores", "DIR_OR_URL",
    )  # fmt: skip
    max_fallback_share: float = option(
        1.0, "largest share of the rows that the fallback gets: the least sure ones", "Scores", "SHARE"
    )
    raw: bool = option(False, "write logits instead of probabilities", "Output")
    overwrite: bool = overwrite_option("file")
    device: str = option(
        "auto", "cpu, cuda, or auto: a GPU for PyTorch models where there is one, else the CPU", "Speed", "DEVICE"
    )
    workers: int | None = option(
        None, "threads that run the model on CPUs, one each [default: the CPUs that this process may use]; of an "
        "endpoint requests at once [default: 8]; of a cluster actors [default: its CPUs]", "Speed",
    )  # fmt: skip
    ray: str | None = ray_option("score", "Speed")
    labels: str | None = option(
        None, "labels of the endpoint, as in good,bad, in the order of its outputs [default: /predict's own]",
        "Endpoint", "LABELS",
    )  # fmt: skip
    served_model: str | None = option(None, "name of the model at the endpoint, for /classify and chat", "Endpoint")
    prompt: str | None = option(
        None, "file with what chat is asked: {text}, {text_pair} and {labels} are filled in", "Endpoint", "FILE"
    )
    max_requests: int | None = option(
        None, "requests after which the command stops, to be gone on with [default: no bound]", "Endpoint"
    )

    @property
    def remote(self) -> bool:
        """Whether the model is named by a URL."""
        return self.model.startswith(("http://", "https://"))

    @property
    def url(self) -> str | None:
        """The URL that is asked, of the model or of its fallback; None where there is none."""
        if self.remote:
            return self.model.rstrip("/")
        match = None if self.fallback is None else URL.fullmatch(self.fallback)
        return None if match is None else match["url"].rstrip("/")

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        if not self.input:
            yield "no --input: expected files of texts"
        if Path(self.out).suffix not in OUTPUTS:
            yield f"--out {self.out}: expected a name that ends in {', '.join(filter(None, OUTPUTS))}, or a folder's"
        if self.device not in DEVICES:
            yield f"--device {self.device}: expected one of {', '.join(DEVICES)}"
        yield from at_least(1, workers=self.workers, max_requests=self.max_requests)
        names = ("labels", "served_model", "prompt", "max_requests")
        if self.ray is not None and (self.remote or not is_cluster(self.ray)):
            yield f"--ray {self.ray}: expected HOST:PORT, auto or {LOCAL}, and a bundle or classifier as MODEL"
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
        if given and self.url is None:
            yield f"{', '.join(given)}: expected the URL of an endpoint as MODEL or --fallback"
        yield from self.fallback_problems()

    def fallback_problems(self) -> Iterator[str]:
        """List each problem of the options that are about unsure answers."""
        if not 0 <= self.threshold <= 1:
            yield f"--threshold {self.threshold:g}: expected 0 to 1"
        if not 0 < self.max_fallback_share <= 1:
            yield f"--max-fallback-share {self.max_fallback_share:g}: expected more than 0, at most 1"
        if self.fallback is None and self.max_fallback_share != 1:
            yield "--max-fallback-share without --fallback: expected the model that it is about"
        if self.fallback is not None and self.remote:
            yield f"--fallback {self.fallback}: expected a bundle or classifier as MODEL"
        elif self.fallback is not None and self.ray is not None and self.url is not None:
            yield f"--ray {self.ray}: expected a bundle or classifier as --fallback"
