"""`toolkit score`: a model's answers to files of texts of any size, on all CPUs, resumable, in the order of the input.

Each block of rows is the work of one thread: it tokenizes the texts, runs the model in batches of like length, and
writes its part. Only a few blocks are in memory at once. With --ray the actors of a cluster do the same.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from toolkit.config import ScoreConfig
from toolkit.console import echo, progress
from toolkit.errors import ToolkitError
from toolkit.measurement.environment import cpu_quota, tool_versions
from toolkit.scoring.answers import Model, scored_table
from toolkit.scoring.cascade import open_model
from toolkit.scoring.cluster import Work, cluster, scored_blocks
from toolkit.scoring.inputs import Block, Survey, find_sources, survey
from toolkit.scoring.parts import PART, Parts

REQUEST_ROWS, REQUESTS = 32, 8  # texts of a block that an endpoint answers, and blocks at once
WAITING = 2  # blocks for each thread that are read ahead


def run_score(config: ScoreConfig) -> Path:
    """Write the rows of `config.input` with the model's answers to `config.out`, a file or a folder of parts.

    Columns: the input's own, then those of `answer_columns`. A killed command goes on where it was, and writes the same
    bytes as one that was not killed.

    Raises:
        ToolkitError: options, files, rows or a model that cannot be used, or logits that are not finite.
    """
    config.check()
    out = Path(config.out)
    _check_out(out, overwrite=config.overwrite)
    sources = find_sources(config.input, out)
    model = open_model(config)
    inputs = survey(
        sources, model.task if model.says_pairs else None, text=config.text_column, pair=config.pair_column,
        skip_bad=config.skip_bad_rows, block_rows=REQUEST_ROWS if config.url is not None else None,
    )  # fmt: skip
    with Parts(out, _command(config, model, inputs)) as parts:
        _score_all(config, model, inputs, parts)
        inputs.check_unchanged(f"start over: rm -r {parts.folder}")
        parts.join(inputs.block_count)
    echo(f"wrote {out}")
    return out


def _score_all(config: ScoreConfig, model: Model, inputs: Survey, parts: Parts) -> None:
    """Score all blocks that have no part yet, on the threads of this machine or on a cluster."""
    count, before = len(inputs.tables), parts.rows()
    what = f"scoring {inputs.rows:,} rows of {inputs.tables[0].source if count == 1 else f'{count} inputs'} on"
    if config.ray is not None:
        with cluster(config.ray, config.workers) as actors:
            echo(f"{what} the cluster {config.ray}, up to {actors} actors")
            work = Work(replace(config, device=model.device), model.digest, inputs)
            _show_progress(inputs.rows, before, _score_on_cluster(work, parts, actors=actors))
        return
    standard = cpu_quota() if config.url is None else REQUESTS
    workers = 1 if model.device == "cuda" else config.workers or standard
    echo(f"{what} {_place(config, model, workers)}")
    scored = _score_on_threads(inputs, model, parts, workers=workers, raw=config.raw)
    _show_progress(inputs.rows, before, scored)


def _check_out(out: Path, *, overwrite: bool) -> None:
    foreign = out.is_dir() and (out.suffix or len(list(out.glob(PART))) < len(list(out.iterdir())))
    if not out.name or not out.parent.is_dir() or foreign or not os.access(out.parent, os.W_OK):
        raise ToolkitError(
            f"--out {out}: cannot be written", expected="a file, or a folder of scores, in a directory that exists"
        )
    if out.exists() and not overwrite:
        raise ToolkitError(f"--out {out} is there already", fix="--overwrite, or another --out")


def _command(config: ScoreConfig, model: Model, inputs: Survey) -> dict[str, object]:
    """Name what decides the scores: parts of another command are not gone on with."""
    return {
        "model": model.digest, "device": model.device, "max length": model.max_length,
        "labels": list(model.task.labels), "--threshold": config.threshold,
        "--raw": config.raw, "--text-column": config.text_column, "--pair-column": config.pair_column,
        "--skip-bad-rows": config.skip_bad_rows, "versions": tool_versions(),
        **{f"{i}. {table.source}": digest
           for i, (table, digest) in enumerate(zip(inputs.tables, inputs.digests, strict=True), start=1)},
    }  # fmt: skip


def _place(config: ScoreConfig, model: Model, workers: int) -> str:
    if config.remote:
        return f"{config.url}, {workers} requests at once"
    place = (
        "the GPU" if model.device == "cuda" else f"{workers} {'thread' if config.url else 'CPU'}{'s' * (workers > 1)}"
    )
    return place if config.fallback is None else f"{place}, unsure ones by {config.fallback}"


def _score_on_threads(inputs: Survey, model: Model, parts: Parts, *, workers: int, raw: bool) -> Iterator[int]:
    """Score all blocks that have no part yet; yield the number of rows of each."""
    done, running = parts.done(), deque[Future[int]]()
    work = partial(_score_block, inputs=inputs, model=model, parts=parts, raw=raw)
    left = (block for block in inputs.blocks() if block.number not in done)
    with ThreadPoolExecutor(workers, "score") as pool:
        try:
            while True:
                ahead = itertools.islice(left, workers * WAITING - len(running))
                running.extend(pool.submit(work, block) for block in ahead)
                if not running:
                    return
                yield running.popleft().result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _score_block(block: Block, *, inputs: Survey, model: Model, parts: Parts, raw: bool) -> int:
    """Score a block and write its part; return the number of its rows."""
    parts.write(block.number, scored_table(block, inputs.types, model, raw=raw))
    return len(block.rows)


def _score_on_cluster(work: Work, parts: Parts, *, actors: int) -> Iterator[int]:
    """Let a cluster score all blocks that have no part yet, and write them here; yield the number of rows of each."""
    for number, table in scored_blocks(work, parts.done(), actors):
        parts.write(number, table)
        yield table.num_rows


def _show_progress(rows: int, before: int, scored: Iterator[int]) -> None:
    """Count scored rows as they come."""
    if before:
        echo(f"{before:,} of them are scored already")
    started = time.monotonic()
    with progress("score", rows, done=before) as bar:
        for more in scored:
            rate = (bar.done + more - before) / (time.monotonic() - started)
            bar.advance(more, speed=f"{rate:,.0f} texts/s")
