"""Killing without `cgroup.kill` (before Linux 5.14) and without any freezer; and a group that is gone already."""

from __future__ import annotations

import os
import sys

import anyio
import pytest

from runtime.cgroups.files import write
from runtime.cgroups.kill import kill, pids_below
from runtime.cgroups.limits import Limits

GENEROUS = Limits(memory_bytes=512 << 20)

BOMB = "import os\nprint(flush=True)\nwhile True:\n  try: os.fork()\n  except OSError: pass"


SLEEPERS = """
import os, signal
for _ in range(20):
    if os.fork() == 0:
        signal.pause()
print(flush=True)
signal.pause()
"""


@pytest.mark.parametrize("by", ["v2's freezer", "no freezer"])
def test_kill_by_pid(v2_bench, bench, by):
    """The recipe of cgroup v1, on a v2 group that has only `cgroup.freeze`, and on a hierarchy that has nothing."""
    chosen = v2_bench if by == "v2's freezer" else bench
    group = chosen.group()
    directory = group.run_unified if by == "v2's freezer" else group.places["pids"].run
    if by == "no freezer" and group.places["pids"].version == 2:
        pytest.skip("needs cgroup1.pids: every group of v2 has a freezer")
    if "pids" in group.places:
        write(f"{group.places['pids'].run}/pids.max", "40")
    process = chosen.start(group, [sys.executable, "-c", BOMB if "pids" in group.places else SLEEPERS])
    process.stdout.readline()
    anyio.run(kill, directory, 1)
    assert pids_below(directory) == []
    assert process.wait() == -9


def test_a_group_that_is_gone_is_dead(bench):
    group = bench.group()
    anyio.run(group.remove)
    anyio.run(group.kill)
    assert not group.populated()


def test_pids_of_subgroups(bench):
    group = bench.group()
    base = group.run_unified or group.places["freezer"].run
    os.mkdir(f"{base}/below")
    process = bench.start(group, ["/bin/sh", "-c", f"echo 0 > {base}/below/cgroup.procs; echo in; exec sleep 100"])
    process.stdout.readline()
    assert group.pids() == [process.pid]
    assert group.populated()
    anyio.run(group.kill)
    assert not group.populated()


def test_a_job_started_without_a_controller_takes_new_limits(bench):
    """The setting for net_cls was switched on while it ran."""
    group = bench.group()
    place = group.places["net_cls"]
    for directory in reversed(place.all):
        os.rmdir(directory)
    group.apply(GENEROUS)
    assert any(note.startswith("net_cls") for note in group.notes)
