"""`toolkit score`: a model's answers to files of texts of any size, on all CPUs, resumable, in the order of the input.

Each block of rows is the work of one thread: it tokenizes the texts, runs the model in batches of like length, and
writes its part. Only a few blocks are in memory at once.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from toolkit.config import ScoreConfig
from toolkit.console import echo, progress
from toolkit.errors import ToolkitError
from toolkit.measurement.environment import cpu_quota, tool_versions
from toolkit.scoring.answers import answer_columns
from toolkit.scoring.endpoints import Endpoint, is_endpoint, open_endpoint
from toolkit.scoring.inputs import Block, Survey, find_files, survey
from toolkit.scoring.models import Scorer, open_scorer
from toolkit.scoring.parts import Parts

REQUEST_ROWS, REQUESTS = 32, 8  # texts of a block that an endpoint answers, and blocks at once
WAITING = 2  # blocks for each thread that are read ahead


def run_score(config: ScoreConfig) -> Path:
    """Write the rows of `config.input` with the model's answers to `config.out`.

    Columns: the input's own, then those of `answer_columns`. A killed command goes on where it was, and writes the same
    bytes as one that was not killed.

    Raises:
        ToolkitError: options, files, rows or a model that cannot be used, or logits that are not finite.
    """
    config.check()
    out = Path(config.out)
    _check_out(out, overwrite=config.overwrite)
    paths = find_files(config.input, out)
    remote = is_endpoint(config.model)
    scorer: Scorer | Endpoint = open_endpoint(config) if remote else open_scorer(config.model, config.device)
    inputs = survey(
        paths, scorer.task if scorer.says_pairs else None, text=config.text_column, pair=config.pair_column,
        skip_bad=config.skip_bad_rows, block_rows=REQUEST_ROWS if remote else None,
    )  # fmt: skip
    workers = 1 if scorer.device == "cuda" else config.workers or (REQUESTS if remote else cpu_quota())
    echo(f"scoring {inputs.rows:,} rows of {len(paths)} file{'s' * (len(paths) > 1)} on {_place(scorer, workers)}")
    with Parts(out, _command(config, scorer, inputs)) as parts:
        blocks = _score_blocks(inputs, scorer, parts, workers=workers, raw=config.raw)
        inputs.check_unchanged(f"start over: rm -r {parts.folder}")
        parts.join(blocks)
    echo(f"wrote {out}")
    return out


def _check_out(out: Path, *, overwrite: bool) -> None:
    if not out.parent.is_dir() or out.is_dir() or not os.access(out.parent, os.W_OK):
        raise ToolkitError(f"--out {out}: cannot be written", expected="a file in a directory that exists")
    if out.exists() and not overwrite:
        raise ToolkitError(f"--out {out} is there already", fix="--overwrite, or another --out")


def _command(config: ScoreConfig, scorer: Scorer | Endpoint, inputs: Survey) -> dict[str, object]:
    """Name what decides the scores: parts of another command are not gone on with."""
    return {
        "model": scorer.digest, "device": scorer.device, "max length": scorer.max_length,
        "labels": list(scorer.task.labels),
        "--raw": config.raw, "--text-column": config.text_column, "--pair-column": config.pair_column,
        "--skip-bad-rows": config.skip_bad_rows, "versions": tool_versions(),
        **{f"{i}. {file.path}": record["sha256"]
           for i, (file, record) in enumerate(zip(inputs.files, inputs.records, strict=True), start=1)},
    }  # fmt: skip


def _place(scorer: Scorer | Endpoint, workers: int) -> str:
    if isinstance(scorer, Endpoint):
        return f"{scorer.client.url}, {workers} requests at once"
    return "the GPU" if scorer.device == "cuda" else f"{workers} CPU{'s' * (workers > 1)}"


def _score_blocks(inputs: Survey, scorer: Scorer | Endpoint, parts: Parts, *, workers: int, raw: bool) -> int:
    """Score all blocks that have no part yet; return the number of all blocks."""
    done, blocks = parts.done(), itertools.count()
    work = partial(_score_block, inputs=inputs, scorer=scorer, parts=parts, raw=raw)
    started, before = time.monotonic(), parts.rows()
    if before:
        echo(f"{before:,} of them are scored already")

    def unscored() -> Iterator[Block]:
        for block in inputs.blocks():
            next(blocks)
            if block.number not in done:
                yield block

    left, running = unscored(), deque[Future[int]]()
    with progress("score", inputs.rows, done=before) as bar, ThreadPoolExecutor(workers, "score") as pool:
        try:
            while True:
                ahead = itertools.islice(left, workers * WAITING - len(running))
                running.extend(pool.submit(work, block) for block in ahead)
                if not running:
                    break
                rows = running.popleft().result()
                rate = (bar.done + rows - before) / (time.monotonic() - started)
                bar.advance(rows, speed=f"{rate:,.0f} texts/s")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return next(blocks)


def _score_block(block: Block, *, inputs: Survey, scorer: Scorer | Endpoint, parts: Parts, raw: bool) -> int:
    """Score a block and write its part; return the number of its rows."""
    logits = scorer.answer(*block.texts())
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise ToolkitError(
            f"{block.file.path} line {block.rows[bad[0]].line}: the model's scores are not finite (NaN or infinity)",
            fix="export or train the model again",
        )
    table: pa.Table = block.table(inputs.types)
    columns = answer_columns(scorer.task, logits, raw=raw, scale=scorer.scale, taken=inputs.types.keys())
    for name, column in columns.items():
        table = table.append_column(name, column)
    parts.write(block.number, table)
    return len(block.rows)
