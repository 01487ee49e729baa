"""CPU quota, weight and cpuset bite; a frozen group takes new values at once."""

from __future__ import annotations

import os
from dataclasses import replace

import anyio
import pytest

from jobs import cpuset as lists
from runtime.cgroups.cpu import quota_us, shares_of_weight
from runtime.cgroups.files import read, table
from runtime.cgroups.limits import Limits

GENEROUS = Limits(memory_bytes=256 << 20)
USE = "import sys, time\nend = time.process_time() + float(sys.argv[1])\nwhile time.process_time() < end: pass"
BURN = "import time; end = time.monotonic() + float(__import__('sys').argv[1])\nwhile time.monotonic() < end: pass"


def test_quota_throttles(bench):
    """The kernel counts the throttled periods and the CPU time. So small a quota is used up on a busy machine too."""
    group = bench.group(replace(GENEROUS, cpu_quota=0.05))
    assert bench.python(group, USE, "0.05")[0] == 0
    stat = table(f"{group.places['cpu'].job}/cpu.stat")
    assert stat["nr_throttled"] >= 3
    assert group.usage().cpu_s <= 0.05 * (stat["nr_periods"] + 1) / 10 + 0.1


def test_waiting_for_a_cpu_is_pressure(bench):
    """PSI of the container's own group, also where the CPU controller is on v1."""
    group = bench.group(replace(GENEROUS, cpu_quota=0.05))
    if not os.access(f"{group.run_unified}/cpu.pressure", os.R_OK):
        pytest.skip("needs psi: this kernel does not count pressure, or no unified hierarchy is mounted")
    assert group.usage().cpu_wait_s < 0.1
    assert bench.python(group, USE, "0.05")[0] == 0
    assert group.usage().cpu_wait_s > 0.3  # 0.05 s take a second at least


def test_without_a_quota_nothing_is_throttled(bench):
    group = bench.group(GENEROUS)
    assert bench.python(group, BURN, "0.3")[0] == 0
    assert table(f"{group.places['cpu'].job}/cpu.stat").get("nr_throttled", 0) == 0


@pytest.mark.parametrize(("weight", "shares"), [(1, 2), (100, 1024), (10_000, 262_144)])
def test_weight(bench, weight, shares):
    group = bench.group(replace(GENEROUS, cpu_weight=weight))
    place = group.places["cpu"]
    if place.version == 1:
        assert read(f"{place.job}/cpu.shares") == str(shares)
    else:
        assert read(f"{place.job}/cpu.weight") == str(weight)


def test_shares_of_weight_is_monotonic_and_meets_runc():
    """Values of runc 1.3.2's formula, turned round."""
    shares = [shares_of_weight(weight) for weight in range(1, 10_001)]
    assert shares == sorted(shares)
    assert (shares[0], shares[99], shares[-1]) == (2, 1024, 262_144)


def test_quota_us():
    assert [quota_us(cpus) for cpus in (0, 0.5, 0.001, 3)] == [-1, 50_000, 1_000, 300_000]


def test_cpuset_pins_a_running_and_a_frozen_process(bench):
    cpuset = bench.caps.controllers["cpuset"]
    cpus = lists.parse(read(f"{cpuset.path}/cpuset.cpus{'.effective' if cpuset.version == 2 else ''}"))
    if len(cpus) < 2:
        pytest.skip("needs cpus.2: one CPU only")
    group = bench.group(replace(GENEROUS, cpus=cpus[:1], mems=(0,)))
    process = bench.start(group, ["/bin/sleep", "100"])

    def allowed():
        return lists.parse(table_line(process.pid, "Cpus_allowed_list"))

    assert allowed() == cpus[:1]
    group.apply(replace(GENEROUS, cpus=cpus[1:2], mems=(0,)))
    assert allowed() == cpus[1:2]
    anyio.run(group.freezer.freeze, 5.0)
    group.apply(replace(GENEROUS, cpus=cpus[:2], mems=(0,)))
    assert allowed() == cpus[:2]
    assert group.freezer.is_frozen()
    anyio.run(group.freezer.thaw)
    group.apply(GENEROUS)  # no CPUs named: what the parent has
    assert set(allowed()) == set(cpus)
    place = group.places["cpuset"]
    if place.version == 1:
        assert read(f"{place.run}/cpuset.memory_migrate") == "1"


def table_line(pid: int, name: str) -> str:
    lines = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    return lines[name]


def test_monitor_may_run_on_the_jobs_cpus_only(bench):
    group = bench.group(replace(GENEROUS, cpus=(0,), mems=(0,)))
    monitor = bench.start(group, ["/bin/sleep", "100"], where="mon")
    assert table_line(monitor.pid, "Cpus_allowed_list") == "0"
    monitor.kill()
