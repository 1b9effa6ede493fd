"""Runs the parts of a GPU check one after the other, each in a process of its own and in its share of the time."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess

from benchmarks.gpu.report import LeftOutError, Part, Settings, read, update, write

# the most important first; a part's share of the time that is left counts beside those after it
SHARES = {"checks": 7.0, "claim": 4.0, "training": 3.0, "grid": 3.0, "quality": 6.0, "runtimes": 2.0}
LEAST_S = 3.0  # a part with less is left out
GRACE_S = 15.0  # behind its deadline a part is ended; it looks at the clock between measurements
# imported once, for all parts; a GPU is not touched by importing, so each part meets it anew, whatever broke before
PRELOADED = [
    "torch", "transformers.models.bert.modeling_bert", "transformers.models.auto.modeling_auto",
    "toolkit.benchmarking.runners", "toolkit.distillation.distill", "toolkit.training.finetune",
    "benchmarks.gpu.claim", "benchmarks.gpu.training", "benchmarks.gpu.quality",
]  # fmt: skip


def run(settings: Settings, minutes: float, names: tuple[str, ...] = tuple(SHARES)) -> bool:
    """Run the parts in the order of SHARES and return whether none failed.

    Args:
        settings: of all parts.
        minutes: in which all has to end; a part that runs when they are over is ended, and keeps what it had stored.
        names: of the parts to run.
    """
    if settings.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(settings.out / "inductor")  # a compilation may be ended half way
    settings.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    end = start + 60 * minutes
    write(settings.report, {
        "created": datetime.now(UTC).isoformat(timespec="seconds"), "device": settings.device, "tiny": settings.tiny,
        "minutes": minutes, "parts": {},
    })  # fmt: skip
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    first = context.Process(target=importlib.import_module, args=("torch",))
    first.start()  # the server imports them before it starts a process: no part's time
    first.join()
    chosen = [name for name in SHARES if name in names]
    for number, name in enumerate(chosen):
        now = time.monotonic()
        share = SHARES[name] / sum(SHARES[later] for later in chosen[number:])
        part = Part(name, settings, now + (end - now) * share)
        if part.left_s < LEAST_S:
            update(settings.report, name, state="left out", reason="no time was left")
        else:
            _run_in_process(context.Process(target=run_part, args=(part,)), part, end)
        _say(read(settings.report)["parts"][name], name, time.monotonic() - start)
    return all(entry["state"] in ("done", "stopped", "left out") for entry in read(settings.report)["parts"].values())


def run_part(part: Part) -> None:
    """Run a part and store how it ended; its errors are part of the report."""
    os.setpgrp()  # with the processes that it starts, so that all can be ended together
    try:
        importlib.import_module(f"benchmarks.gpu.{part.name}").measure(part)
    except LeftOutError as reason:
        update(part.settings.report, part.name, state="left out", reason=str(reason))
    except Exception:
        traceback.print_exc()
        update(part.settings.report, part.name, state="failed", error=traceback.format_exc())
    else:
        update(part.settings.report, part.name, state="done")


def _run_in_process(process: ForkServerProcess, part: Part, end: float) -> None:
    report, start = part.settings.report, time.monotonic()
    update(report, part.name, state="running", share_s=round(part.left_s, 1))
    process.start()
    try:
        process.join(min(part.deadline + GRACE_S, end) - start)
        stopped = process.is_alive()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)  # also what a part that ended left running
        process.kill()  # one that had no time to make a group of its own
        process.join()
    if stopped:
        update(report, part.name, state="stopped", reason="its time was over; what it had measured is here")
    elif read(report)["parts"][part.name]["state"] == "running":
        update(report, part.name, state="failed", error=f"its process ended with exit code {process.exitcode}")
    update(report, part.name, seconds=round(time.monotonic() - start, 1))


def _say(entry: dict[str, object], name: str, elapsed_s: float) -> None:
    reason = str(entry.get("reason") or entry.get("error") or "").strip().splitlines()[-1:]
    print(f"[{elapsed_s:5.0f} s] {name}: {' '.join([str(entry['state']), *reason])}", flush=True)
    sys.stderr.flush()
