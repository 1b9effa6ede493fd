"""Checkpoints of a training command, in OUT.partial beside its --out: a killed command resumes from the last of them.

`command.json` there names the command, so that no other command resumes from them. A checkpoint is a directory
STAGE-STEP, written under another name and renamed when it is complete; the one before is removed after that. A finished
stage keeps its weights only. OUT.partial is removed once the bundle is written.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors import SafetensorError

from toolkit.errors import ToolkitError, reason_of
from toolkit.files import COMMAND, atomic_file, canonical_json, check_same_command, flush_directory, sole_writer
from toolkit.training.distributed import distributed_state

PROGRESS = "progress.json"
TIME_FRACTION = 0.02  # of training that checkpoints may take where --checkpoint-every is not given
MIN_INTERVAL_S = 60.0
WITHOUT_EFFECT = ("out", "checkpoint_every")  # options that change no weight


class Checkpoints:
    """The checkpoints of a command, as a context: a clean exit removes them, any other leaves them to resume from.

    Args:
        options: the command's, resolved. `out` is where the bundle will be. `checkpoint_every` is the number of steps
            between checkpoints; None lets them take TIME_FRACTION of the time, at most one each MIN_INTERVAL_S.
        inputs: digests of the data and models that the options name.

    Raises:
        ToolkitError: OUT.partial holds checkpoints of another command, and the message lists the differences; or
            another process writes there.
    """

    def __init__(self, options: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        out, self.every = Path(options["out"]), options["checkpoint_every"]
        self.path = out.with_name(f"{out.name}.partial")
        self._last_saved, self._save_seconds = time.monotonic(), 0.0
        state = distributed_state()
        self._main, self._wait = state.is_main_process, state.wait_for_everyone
        flags = {f"--{name.replace('_', '-')}": options[name] for name in options if name not in WITHOUT_EFFECT}
        self.command = json.loads(canonical_json({**flags, **inputs, "processes": state.num_processes}))
        self._check_command()
        self._sole_writer = sole_writer(self.path)

    def __enter__(self) -> Checkpoints:
        if self._main:
            self._sole_writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._wait()
            if self._main:
                shutil.rmtree(self.path, ignore_errors=True)
        if self._main:
            self._sole_writer.__exit__(kind, error, at)

    def last(self, stage: str) -> Path | None:
        """Return the newest complete checkpoint of a stage, or None."""
        return max(self._complete(stage), default=None, key=_step)

    def due(self) -> bool:
        """Return whether a checkpoint is due by this process's clock, for a command without --checkpoint-every."""
        return time.monotonic() - self._last_saved >= max(MIN_INTERVAL_S, self._save_seconds / TIME_FRACTION)

    @contextmanager
    def save(self, stage: str, step: int, progress: Mapping[str, object]) -> Iterator[Path]:
        """Yield a directory to write to, on every process; when complete it replaces the stage's earlier checkpoint.

        Raises:
            ToolkitError: it cannot be written, as on a full disk; the earlier checkpoint is still there.
        """
        begin, staging = time.monotonic(), self.path / f".{stage}"
        try:
            if self._main:
                shutil.rmtree(staging, ignore_errors=True)
                staging.mkdir(parents=True)
                _write(self.path / COMMAND, self.command)
            self._wait()
            yield staging
            self._wait()
            if self._main:
                _write(staging / PROGRESS, progress)
                flush_directory(staging)
                older = self._complete(stage)
                staging.rename(self.path / f"{stage}-{step}")
                for path in older:
                    shutil.rmtree(path)
        # torch and safetensors raise errors of their own, `atomic_file` a ToolkitError
        except (OSError, RuntimeError, SafetensorError, ToolkitError) as error:
            self._give_up(staging, stage, error)
        self._wait()
        self._last_saved = time.monotonic()
        self._save_seconds = self._last_saved - begin

    @contextmanager
    def opened(self, path: Path) -> Iterator[dict[str, Any]]:
        """Yield a checkpoint's progress; the caller reads its other files inside.

        Raises:
            ToolkitError: a file is missing or damaged; the message names the checkpoint.
        """
        try:
            yield json.loads((path / PROGRESS).read_bytes())
        except Exception as error:  # whatever a damaged file makes its reader raise
            raise ToolkitError(
                f"the checkpoint {path} is damaged: {reason_of(error)}", fix=f"start over: rm -r {self.path}"
            ) from error

    def _complete(self, stage: str) -> list[Path]:
        return [path for path in self.path.glob(f"{stage}-*") if path.name.removeprefix(f"{stage}-").isdigit()]

    def _check_command(self) -> None:
        if not self.path.is_dir() or not any(
            path.is_dir() and not path.name.startswith(".") for path in self.path.iterdir()
        ):
            return  # ended before its first checkpoint: nothing to lose
        check_same_command(
            self.path, self.command, holds="the checkpoints",
            expected="the same options, data and models, to go on from them",
        )  # fmt: skip

    def _give_up(self, staging: Path, stage: str, error: Exception) -> None:
        size = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file()) if staging.exists() else 0
        shutil.rmtree(staging, ignore_errors=True)
        free, last = shutil.disk_usage(self.path.parent).free, self.last(stage)
        outcome = f"goes on from step {_step(last)}" if last else "starts this stage again"
        raise ToolkitError(
            f"cannot write a checkpoint to {self.path}: {reason_of(error)}",
            expected=f"room for more than {size / 1e6:.1f} MB; {free / 1e6:.1f} MB are free",
            fix=f"make room there, then give the same command again: it {outcome}",
        ) from error


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _write(path: Path, value: Mapping[str, object]) -> None:
    with atomic_file(path) as partial:
        partial.write_bytes(canonical_json(value))
