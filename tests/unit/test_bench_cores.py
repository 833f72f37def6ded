"""A container with a CPU quota has as many cores as that, and others are those in the same container."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from bench import processes
from bench.environment import environment


@pytest.fixture(autouse=True)
def _system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(processes, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(processes, "_OWN_CORES", 8.0)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _second_version(tmp_path: Path, of: str, limit: str, usage_usec: int = 0) -> None:
    _write(tmp_path / "groups" / of / "cpu.max", f"{limit} 100000\n")
    _write(tmp_path / "groups" / of / "cpu.stat", f"usage_usec {usage_usec}\nuser_usec 1\n")


def _of_machine() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


def test_the_least_quota_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    _write(tmp_path / "proc/self/cgroup", "0::/pod/container\n")
    _second_version(tmp_path, "pod/container", "max")
    _second_version(tmp_path, "pod", "150000", 2_500_000)
    _second_version(tmp_path, "", "400000", 9_000_000)
    assert processes.cores() == 1.5
    assert processes.machine_cpu_seconds() == 2.5
    assert environment(tmp_path)["cores"] == "1.5"


def test_a_quota_counts_for_a_thread_that_keeps_to_fewer_cores_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "proc/self/cgroup", "0::/\n")
    _second_version(tmp_path, "", "600000", 2_500_000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 4, 5})
    assert processes.cores() == 6.0
    assert processes.machine_cpu_seconds() == 2.5


def test_a_container_that_is_told_the_path_of_its_host_has_the_quota_of_the_root(tmp_path: Path) -> None:
    _write(tmp_path / "proc/self/cgroup", "4:memory:/x\n2:cpu,cpuacct:/docker/1234\n1:cpuset:/\n0::/\n")
    root = tmp_path / "groups" / "cpu"
    _write(root / "cpu.cfs_quota_us", "200000\n")
    _write(root / "cpu.cfs_period_us", "100000\n")
    _write(tmp_path / "groups" / "cpuacct" / "cpuacct.usage", "3500000000\n")
    assert processes.cores() == 2.0
    assert processes.machine_cpu_seconds() == 3.5


@pytest.mark.parametrize("limit", ["max", "800000", "900000"])
def test_without_a_quota_that_takes_something_it_is_the_machine(limit: str, tmp_path: Path) -> None:
    _write(tmp_path / "proc/self/cgroup", "0::/\n")
    _second_version(tmp_path, "", limit, 1)
    before = _of_machine()
    assert processes.cores() == 8.0
    assert before <= processes.machine_cpu_seconds() <= _of_machine()


def test_the_first_version_without_a_quota_is_the_machine(tmp_path: Path) -> None:
    _write(tmp_path / "proc/self/cgroup", "1:cpu:/\n0::/\n")
    _write(tmp_path / "groups/cpu/cpu.cfs_quota_us", "-1\n")
    _write(tmp_path / "groups/cpu/cpu.cfs_period_us", "100000\n")
    assert processes.cores() == 8.0


def test_a_system_without_control_groups_is_the_machine() -> None:
    before = _of_machine()
    assert processes.cores() == 8.0
    assert before <= processes.machine_cpu_seconds() <= _of_machine()
