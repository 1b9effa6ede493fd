"""Blocks that the actors of a Ray cluster score, by Ray Data.

One task on this machine reads the blocks, each actor opens the model once and answers whole blocks, and this process
gets them back, in any order. A block is padded as on one machine, so that its answers are the same.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.config import ScoreConfig
from toolkit.config.base import LOCAL
from toolkit.config.model_names import NamedModel
from toolkit.errors import ToolkitError, require_packages
from toolkit.scoring.answers import Model, scored_table
from toolkit.scoring.cascade import open_model
from toolkit.scoring.columns import Source
from toolkit.scoring.inputs import Survey

AHEAD_BYTES = 64 * 2**20  # for each actor: blocks that wait for it, or for this process
ANSWER_S = 10.0  # within which a cluster answers


@dataclass(frozen=True)
class Work:
    """What each actor is told.

    Attributes:
        config: the options; its models are at the same places on every machine, its device is "cpu" or "cuda".
        digest: of the model that this machine opens.
        inputs: what only this machine reads.
    """

    config: ScoreConfig
    digest: str
    inputs: Survey


class Actor:
    """The model in a process of the cluster."""

    def __init__(self, work: Work) -> None:
        self.work = work

    @cached_property
    def model(self) -> Model:
        """The model, opened for the first block: an error of a constructor would not reach the user."""
        model = open_model(self.work.config)
        if model.digest != self.work.digest:
            raise other_model(self.work.config.model)
        return model

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score the one block of a batch."""
        number, content = _unpacked(batch)
        block = pickle.loads(content)  # noqa: S301 - from the command that has sent this object too
        work = self.work
        return _packed(number, _to_arrow(scored_table(block, work.inputs.types, self.model, raw=work.config.raw)))


@contextmanager
def cluster(address: str, workers: int | None) -> Iterator[int]:
    """Join the Ray cluster at an address, and yield how many actors work.

    Args:
        address: HOST:PORT; "auto", the cluster of this machine; or LOCAL, one of this machine that ends with the block.
        workers: that the user asks for; None takes the CPUs of the cluster.

    Raises:
        ToolkitError: Ray is not installed, or no cluster answers.
    """
    require_packages("ray", purpose="--ray", extra="ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers unless it is told not to
    import ray

    own: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    try:
        if address not in (LOCAL, "auto"):  # Ray would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), port), ANSWER_S).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise ToolkitError(
            f"--ray {address}: {error}", expected=f"HOST:PORT of a cluster, auto or {LOCAL}", fix="ray start --head"
        ) from None
    try:
        yield workers or int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


def scored_blocks(work: Work, done: Collection[int], actors: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield the number and the rows of each block that is not done, as soon as it is scored.

    Ray Data holds the reading back while as many blocks wait as AHEAD_BYTES hold.

    Raises:
        ToolkitError: of an actor or the reader, or the cluster fails.
    """
    import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is raised
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    tables = [replace(table, source=_absolute(table.source)) for table in work.inputs.tables]
    work = replace(work, inputs=replace(work.inputs, tables=tables), config=_with_absolute_paths(work.config))
    # a CPU for the reader would be one that the actors wait for, on a cluster that they fill
    blocks = ray.data.read_datasource(
        _source(work.inputs, frozenset(done)), num_cpus=0, label_selector=here, override_num_blocks=1
    )
    options: dict[str, Any] = {"num_gpus": 1} if work.config.device == "cuda" else {"num_cpus": 1}
    answers = blocks.map_batches(
        Actor, fn_constructor_args=(work,), batch_size=1, batch_format="pyarrow", concurrency=(1, actors), **options
    )
    context = answers.context
    context.target_max_block_size = 1  # bytes: a block of ours is one of Ray Data's
    context.raise_original_map_exception = True
    bound = ray.data.ExecutionResources.for_limits(object_store_memory=actors * AHEAD_BYTES)
    context.execution_options.resource_limits = bound
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        for batch in answers.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=1):
            number, content = _unpacked(batch)
            yield number, pa.ipc.open_stream(content).read_all()
    except ray.exceptions.RayError as error:
        raise cluster_error(error) from None


def _absolute(source: Source) -> Source:
    """Give the same file to Ray's processes, which run in another folder."""
    return source.absolute() if isinstance(source, Path) else source


def _with_absolute_paths(config: ScoreConfig) -> ScoreConfig:
    model = str(Path(config.model).absolute()) if Path(config.model).exists() else config.model
    if config.fallback is None:
        return replace(config, model=model)
    second = NamedModel.parse(config.fallback)
    return replace(config, model=model, fallback=f"{second.name}={Path(second.place).absolute()}")


def _source(inputs: Survey, done: frozenset[int]) -> Any:
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Source(Datasource):
        """The blocks of the files, read by one task."""

        def estimate_inmemory_data_size(self) -> int | None:
            """Give no estimate."""
            return None

        def get_read_tasks(self, *_: object, **__: object) -> list[ReadTask]:
            """Give the task."""
            return [ReadTask(partial(_read, inputs, done), BlockMetadata(inputs.block_count, None, None, None))]

    return Source()  # type: ignore[no-untyped-call]


def _read(inputs: Survey, done: frozenset[int]) -> Iterator[pa.Table]:
    for block in inputs.blocks():
        if block.number not in done:
            yield _packed(block.number, pickle.dumps(block))


def _packed(number: int, content: bytes) -> pa.Table:
    """Make a row of a block or its answers; as bytes, whose size Ray Data knows, which holds the reading back by it."""
    return pa.table({"number": [number], "content": pa.array([content], pa.large_binary())})


def _unpacked(row: pa.Table) -> tuple[int, bytes]:
    return row["number"][0].as_py(), row["content"][0].as_py()


def _to_arrow(table: pa.Table) -> bytes:
    """Encode a table so that reading it runs nothing, whichever machine of the cluster sends it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def other_model(name: str) -> ToolkitError:
    """Say that a machine of the cluster, on which this runs, has another model than the one that gave the command."""
    return ToolkitError(
        f"{name} on {os.uname().nodename} is another model than here",
        expected="the same at this place on every machine of the cluster",
    )


def cluster_error(error: Exception) -> ToolkitError:
    """Give the error of ours that Ray's wraps, or one that says what Ray's says."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ToolkitError):
        return cause
    lines = str(error).strip().splitlines()
    return ToolkitError(
        f"the cluster fails: {lines[-1] if lines else type(error).__name__}",
        fix="the same command goes on from what is there",
    )
