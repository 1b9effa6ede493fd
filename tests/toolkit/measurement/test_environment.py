"""CPUs that a process may use, and the load of other programs, read from files that the tests write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.measurement import environment
from toolkit.measurement.environment import cpu_limit, cpu_quota, physical_cores

CPUINFO = """processor : {0}
model name : Test CPU
physical id : 0
core id : {1}
flags : fpu avx2 avx512_vnni

"""


def test_cores_are_physical_allowed_and_within_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, quota, none = tmp_path / "cpuinfo", tmp_path / "cpu.max", tmp_path / "none"
    info.write_text("".join(CPUINFO.format(cpu, cpu // 2) for cpu in range(8)))  # four cores of two threads each
    monkeypatch.setattr(environment, "CPUINFO", info)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert physical_cores(tmp_path, none) == 4
    quota.write_text("max 100000\n")
    assert physical_cores(tmp_path, none) == 4
    quota.write_text("250000 100000\n")
    assert physical_cores(tmp_path, none) == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert physical_cores(tmp_path, none) == 2
    stat = tmp_path / "stat"
    monkeypatch.setattr(environment, "STAT", stat)
    assert environment.BackgroundLoad().fraction() is None
    stat.write_text("cpu  100 0 100 9999 5 0 0 0 0 0\n")
    load = environment.BackgroundLoad()
    assert load.fraction() == pytest.approx(0, abs=0.01)
    stat.write_text("cpu  100 0 100 9999 5 0 0 99999999 0 0\n")  # all of it stolen by other guests
    assert load.fraction() == 1
    about = environment.environment()
    assert about["cpu"] == "Test CPU"
    assert about["vector_flags"] == ["avx2", "avx512_vnni"]
    info.unlink()
    assert physical_cores(tmp_path, none) == 3


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 4),
        ({"cpu.max": "900000 100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "nonsense"}, 4),
        ({}, 4),
    ],
)
def test_workers_follow_the_containers_limit(
    files: dict[str, str], cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert cpu_quota(tmp_path, tmp_path / "none") == cpus


@pytest.mark.parametrize(
    ("own", "files", "cpus"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "200000 100000"}, 2),  # those above hold too
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "cpu.max": "100000 100000"}, 1),
        ("0::/a\n", {"c/cpu.max": "100000 100000"}, 4),  # somebody else's
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 2),
        ("3:memory:/a\n", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 4),
        ("0::/\n", {}, 4),
    ],
)
def test_workers_follow_the_limit_of_their_own_control_group(
    own: str, files: dict[str, str], cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(content)
    assert cpu_quota(tmp_path / "mount", tmp_path / "own") == cpus


def test_a_part_of_a_cpu_is_no_thread_of_a_server_but_of_a_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "none")
    (tmp_path / "cpu.max").write_text("250000 100000")
    groups = tmp_path, tmp_path / "none"
    assert (cpu_limit(*groups), cpu_quota(*groups), physical_cores(*groups)) == (2.5, 2, 3)
    (tmp_path / "cpu.max").write_text("20000 100000")
    assert (cpu_limit(*groups), cpu_quota(*groups), physical_cores(*groups)) == (0.2, 1, 1)


def test_a_benchmark_keeps_to_the_limit_of_a_version_1_group_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert physical_cores(tmp_path, tmp_path / "none") <= 2


def test_versions_are_those_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "RECORDED_VERSIONS", ("numpy", "no-such-package"))
    assert environment.tool_versions() == {"numpy": np.__version__}
