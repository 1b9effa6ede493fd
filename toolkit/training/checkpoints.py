"""Checkpoints of a training command, in OUT.partial beside its --out: killed at any moment, it goes on from the last.

`command.json` there says whose they are, so that another command does not go on from them. A checkpoint is a directory
STAGE-STEP, written under another name and renamed when it is whole; the one before goes after that. A finished stage
leaves its weights alone. Everything goes once the bundle is written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors import SafetensorError
from torch import nn

from toolkit.errors import ToolkitError
from toolkit.files import atomic_file, canonical_json, flush_directory
from toolkit.training.distributed import distributed_state

COMMAND, PROGRESS = "command.json", "progress.json"
SHARE_OF_TIME = 0.02  # that checkpoints may take where no number of steps is given
LEAST_INTERVAL_S = 60.0
CHANGE_NOTHING = ("out", "checkpoint_every")


class Checkpoints:
    """The checkpoints of one command, as a context: removed when it ends well, kept when it does not.

    Args:
        options: the command's, resolved; `out` says where, `checkpoint_every` how many steps apart: None lets
            checkpoints take SHARE_OF_TIME, once a minute at most.
        inputs: digests of the data and models that the options name.

    Raises:
        ToolkitError: OUT.partial holds checkpoints of another command; names what differs.
    """

    def __init__(self, options: dict[str, Any], inputs: dict[str, str]) -> None:
        out, self.every = Path(options["out"]), options["checkpoint_every"]
        self.path = out.with_name(f"{out.name}.partial")
        self._saved, self._cost = time.monotonic(), 0.0
        state = distributed_state()
        self._main, self._wait = state.is_main_process, state.wait_for_everyone
        flags = {f"--{name.replace('_', '-')}": options[name] for name in options if name not in CHANGE_NOTHING}
        self.command = json.loads(canonical_json({**flags, **inputs, "processes": state.num_processes}))
        self._check_command()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._wait()
            if self._main:
                shutil.rmtree(self.path, ignore_errors=True)

    def last(self, stage: str) -> Path | None:
        """The newest whole checkpoint of a stage."""
        return max(self._whole(stage), default=None, key=_step)

    def due(self) -> bool:
        """Whether it is time for one by this process's clock, where no number of steps is given."""
        return time.monotonic() - self._saved >= max(LEAST_INTERVAL_S, self._cost / SHARE_OF_TIME)

    @contextmanager
    def save(self, stage: str, step: int, progress: dict[str, Any]) -> Iterator[Path]:
        """Yield a directory to write to, on every process; whole, it takes the place of the stage's others.

        Raises:
            ToolkitError: it cannot be written, as on a full disk; the last one is still there.
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
                older = self._whole(stage)
                staging.rename(self.path / f"{stage}-{step}")
                for path in older:
                    shutil.rmtree(path)
        except (
            OSError,
            RuntimeError,
            SafetensorError,
            ToolkitError,
        ) as error:  # torch and safetensors raise their own
            self._give_up(staging, stage, error)
        self._wait()
        self._saved = time.monotonic()
        self._cost = self._saved - begin

    @contextmanager
    def opened(self, path: Path) -> Iterator[dict[str, Any]]:
        """Yield a checkpoint's progress; what goes wrong while it is read is told with its name.

        Raises:
            ToolkitError: a file is missing or damaged.
        """
        try:
            yield json.loads((path / PROGRESS).read_bytes())
        except Exception as error:  # whatever a damaged file makes its reader raise
            raise ToolkitError(
                f"the checkpoint {path} is damaged: {str(error).splitlines()[0]}", fix=f"start over: rm -r {self.path}"
            ) from error

    def _whole(self, stage: str) -> list[Path]:
        return [path for path in self.path.glob(f"{stage}-*") if path.name.removeprefix(f"{stage}-").isdigit()]

    def _check_command(self) -> None:
        try:
            theirs = json.loads((self.path / COMMAND).read_bytes())
        except (OSError, ValueError):
            return
        if not any(path.is_dir() and not path.name.startswith(".") for path in self.path.iterdir()):
            return  # ended before its first checkpoint: nothing to lose
        differing = [
            f"{name}: {_short(theirs.get(name))} there, {_short(self.command.get(name))} here"
            for name in sorted({*theirs, *self.command})
            if theirs.get(name) != self.command.get(name)
        ]
        if differing:
            raise ToolkitError(
                f"{self.path} holds the checkpoints of another command:\n" + "\n".join(f"  - {d}" for d in differing),
                expected="the same options, data and models, to go on from them",
                fix=f"another --out, or start over: rm -r {self.path}",
            )

    def _give_up(self, staging: Path, stage: str, error: Exception) -> None:
        size = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file()) if staging.exists() else 0
        shutil.rmtree(staging, ignore_errors=True)
        free, last = shutil.disk_usage(self.path.parent).free, self.last(stage)
        kept = f"goes on from step {_step(last)}" if last else "starts this stage again"
        raise ToolkitError(
            f"cannot write a checkpoint to {self.path}: {str(error).splitlines()[0]}",
            expected=f"room for more than {size / 1e6:.1f} MB; {free / 1e6:.1f} MB are free",
            fix=f"make room there, then give the same command again: it {kept}",
        ) from error


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over a model's parameters and buffers, by name."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _write(path: Path, value: dict[str, Any]) -> None:
    with atomic_file(path) as partial:
        partial.write_bytes(canonical_json(value))


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)  # a SHA-256
