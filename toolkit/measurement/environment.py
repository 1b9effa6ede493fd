"""The machine of a measurement: CPU, cores that this process may use, memory, load of other programs, versions."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

CPUINFO = Path("/proc/cpuinfo")
STAT = Path("/proc/stat")
VECTOR_FLAGS = ("avx", "fma", "amx", "sse4", "f16c", "asimd", "sve", "bf16", "i8mm", "neon")  # what kernels choose by
RECORDED_VERSIONS = ("tinybert-toolkit", "torch", "transformers", "tokenizers", "onnx", "onnxruntime", "optimum-onnx")
CGROUP, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


class GpuRecord(TypedDict):
    """A GPU and how PyTorch multiplies float32 on it ("highest": no TF32)."""

    name: str
    memory_bytes: int
    cuda: str | None
    fp32_matmul: str


class EnvironmentRecord(TypedDict):
    """The machine and the software of a measurement, as reports store them."""

    cpu: str
    cpu_flags: list[str]
    vector_flags: list[str]
    logical_cores: int
    physical_cores: int
    memory_bytes: int | None
    platform: str
    python: str
    versions: dict[str, str]
    gpu: GpuRecord | None


def environment(device: str = "cpu") -> EnvironmentRecord:
    """Describe the CPU, cores, memory, operating system, Python and packages, and on "cuda" the GPU."""
    first, flags = next(iter(_processors()), {}), cpu_flags()
    return {
        "cpu": first.get("model name") or platform.processor() or platform.machine(),
        "cpu_flags": flags,
        "vector_flags": [flag for flag in flags if any(part in flag for part in VECTOR_FLAGS)],
        "logical_cores": len(_allowed_cpus()),
        "physical_cores": physical_cores(),
        "memory_bytes": _memory_bytes(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": tool_versions(),
        "gpu": _gpu() if device == "cuda" else None,
    }


def cpu_flags() -> list[str]:
    """Give the instruction sets of the CPU as the kernel names them, in order of the alphabet."""
    first = next(iter(_processors()), {})
    return sorted((first.get("flags") or first.get("Features") or "").split())


def tool_versions() -> dict[str, str]:
    """Give the installed versions of the packages that can change a result."""
    versions = {}
    for name in RECORDED_VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


class BackgroundLoad:
    """The load of other programs on the machine, from the object's creation on."""

    def __init__(self) -> None:
        self._start = time.monotonic(), _busy_seconds(), _own_seconds()

    def fraction(self) -> float | None:
        """Give the load as a fraction of all cores, 0 to 1, other guests' steal included.

        None where the system has no count.
        """
        start, busy_before, own_before = self._start
        busy = _busy_seconds()
        if busy is None or busy_before is None:
            return None
        background = (busy - busy_before) - (_own_seconds() - own_before)
        return min(1.0, max(0.0, background / ((time.monotonic() - start) * (os.cpu_count() or 1))))


def cpu_limit(mount: Path = CGROUP, own: Path = OWN_CGROUP) -> float:
    """Give the CPUs that this process may use, fractions included: its affinity and the limits of its control groups.

    Args:
        mount: root of the control groups, version 2 or 1.
        own: file that names the control group of the process; the limits of the groups above it hold too.
    """
    limits = [limit for group in _control_groups(mount, own) if (limit := _group_limit(group)) is not None]
    return min([len(_allowed_cpus()), *limits])


def cpu_quota(mount: Path = CGROUP, own: Path = OWN_CGROUP) -> int:
    """Give the threads that a server may keep busy: `cpu_limit` rounded down, at least 1.

    The kernel stops a process that spends its quota early, and every request in it waits for the next period. A thread
    for a part of a CPU causes that.
    """
    return max(1, math.floor(cpu_limit(mount, own)))


def physical_cores(mount: Path = CGROUP, own: Path = OWN_CGROUP) -> int:
    """Give the threads that a benchmark runs with: physical cores, at most `cpu_limit` rounded up, at least 1.

    Both sides of a comparison get as many, so a thread that the kernel stops now and then slows both alike; rounding
    down would measure a smaller machine than there is.
    """
    allowed = _allowed_cpus()
    # kernels that know no topology (some virtual machines, ARM) list no core id: each CPU then counts as a core
    cores = {
        (processor.get("physical id", "0"), processor.get("core id", processor["processor"]))
        for processor in _processors()
        if int(processor["processor"]) in allowed
    }
    return max(1, min(len(cores) or len(allowed), math.ceil(cpu_limit(mount, own))))


def _allowed_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _control_groups(mount: Path, own: Path) -> Iterator[Path]:
    """Yield the directories that may limit this process. In a container its own group is usually the mounted root."""
    yield from (mount, mount / "cpu")
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = mount if not controllers else mount / "cpu"
        if not controllers or "cpu" in controllers.split(","):
            group = root / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder != root and folder.is_relative_to(root))


def _group_limit(group: Path) -> float | None:
    """Read the CPUs that a control group allows; None where it sets no limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _processors() -> list[dict[str, str]]:
    """Read /proc/cpuinfo: a mapping for each processor."""
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
    """Read the CPU time that all programs have used since the start of the machine, over all cores."""
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


def _gpu() -> GpuRecord:
    import torch

    gpu = torch.cuda.get_device_properties(0)
    return {
        "name": gpu.name, "memory_bytes": gpu.total_memory, "cuda": torch.version.cuda,
        "fp32_matmul": torch.get_float32_matmul_precision(),
    }  # fmt: skip
