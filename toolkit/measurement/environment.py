"""What a measurement was made on: CPU, cores this process may use, memory, versions."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
STAT = Path("/proc/stat")
VECTOR_FLAGS = ("avx", "fma", "amx", "sse4", "f16c", "asimd", "sve", "bf16", "i8mm", "neon")  # what kernels choose by
RECORDED_VERSIONS = ("tinybert-toolkit", "torch", "transformers", "tokenizers", "onnx", "onnxruntime", "optimum-onnx")
CGROUP, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def environment(device: str = "cpu") -> dict[str, Any]:
    """CPU model and flags, cores, memory, operating system, Python and package versions; plain values for JSON.

    On "cuda" the GPU's name, memory and CUDA version too.
    """
    processors = _processors()
    first = processors[0] if processors else {}
    flags = sorted((first.get("flags") or first.get("Features") or "").split())
    return {
        "cpu": first.get("model name") or platform.processor() or platform.machine(),
        "cpu_flags": flags,
        "vector_flags": [flag for flag in flags if any(part in flag for part in VECTOR_FLAGS)],
        "logical_cores": len(_allowed()),
        "physical_cores": physical_cores(),
        "memory_bytes": _memory_bytes(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": tool_versions(),
        "gpu": _gpu() if device == "cuda" else None,
    }


def _gpu() -> dict[str, Any]:
    import torch

    about = torch.cuda.get_device_properties(0)
    precision = torch.get_float32_matmul_precision()  # "highest": true float32, no TF32
    return {
        "name": about.name, "memory_bytes": about.total_memory, "cuda": torch.version.cuda, "fp32_matmul": precision,
    }  # fmt: skip


class BackgroundLoad:
    """How much of the machine other programs used since this was made."""

    def __init__(self) -> None:
        self._start = time.monotonic(), _busy_seconds(), _own_seconds()

    def share(self) -> float | None:
        """Share of all cores, 0 to 1, other guests' steal included; None where the system does not tell."""
        start, busy_then, own_then = self._start
        busy = _busy_seconds()
        if busy is None or busy_then is None:
            return None
        others = (busy - busy_then) - (_own_seconds() - own_then)
        return min(1.0, max(0.0, others / ((time.monotonic() - start) * (os.cpu_count() or 1))))


def physical_cores() -> int:
    """Physical cores that this process may use: its CPU affinity and its container's quota bound them, 1 at least."""
    allowed = _allowed()
    # kernels that know no topology (some virtual machines, ARM) list no core id: each CPU then counts as a core
    cores = {
        (one.get("physical id", "0"), one.get("core id", one["processor"]))
        for one in _processors()
        if int(one["processor"]) in allowed
    }
    return max(1, min(len(cores) or len(allowed), _quota()))


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota() -> int:
    """CPUs that the container's cgroup grants, rounded up."""
    try:
        quota, period = CGROUP_CPU_MAX.read_text().split()
    except (OSError, ValueError):
        return len(_allowed())
    return len(_allowed()) if quota == "max" else max(1, math.ceil(int(quota) / int(period)))


def _processors() -> list[dict[str, str]]:
    """One mapping for each block of /proc/cpuinfo that describes a processor."""
    try:
        blocks = CPUINFO.read_text(errors="replace").split("\n\n")
    except OSError:
        return []
    parsed = [dict(_field(line) for line in block.splitlines() if ":" in line) for block in blocks]
    return [block for block in parsed if block.get("processor", "").isdecimal()]


def _field(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _busy_seconds() -> float | None:
    """CPU time that all programs have used since the start of the machine, over all cores."""
    try:
        fields = STAT.read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def tool_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a result."""
    found = {}
    for name in RECORDED_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_quota(mount: Path = CGROUP, own: Path = OWN_CGROUP) -> int:
    """Whole CPUs this process may use: its affinity, and a control group's limit where that is lower (at least 1).

    Args:
        mount: where the control groups are, version 2 or 1.
        own: tells which one the process is in; the limits of those above it hold too.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [limit for group in _groups(mount, own) if (limit := _limit(group)) is not None]
    return max(1, math.floor(min([available, *limits])))


def _groups(mount: Path, own: Path) -> Iterator[Path]:
    """Directories that may limit this process. In a container its own group is usually the mounted root itself."""
    yield from (mount, mount / "cpu")
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = mount if not controllers else mount / "cpu"
        if not controllers or "cpu" in controllers.split(","):
            here = root / path.lstrip("/")
            yield from (one for one in (here, *here.parents) if one != root and one.is_relative_to(root))


def _limit(group: Path) -> float | None:
    """CPUs that a control group allows, or None where it sets no limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None
