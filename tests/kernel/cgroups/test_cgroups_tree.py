"""Groups in every hierarchy: made, opened after a restart, listed, removed."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import anyio
import pytest

from jobs.errors import StepFailed
from runtime.cgroups.limits import Limits
from runtime.cgroups.tree import CgroupTree

GENEROUS = Limits(memory_bytes=512 << 20)


def test_a_process_sits_in_every_hierarchy(bench):
    group = bench.group()
    code, out, err = bench.run(group, ["/bin/cat", "/proc/self/cgroup"])
    assert code == 0, err
    where = dict(line.split(":", 2)[1:] for line in out.splitlines())
    for name, mount in bench.caps.controllers.items():
        if name == "freezer" and bench.caps.freezer == "v2":
            continue
        key = "" if mount.version == 2 else {"io": "blkio"}.get(name, name)
        path = where[key] if key in where else next(path for names, path in where.items() if key in names.split(","))
        assert path == f"/{bench.tree.root}/1.0.1/run", name


def test_exactly_one_freezer(bench, v1_bench):
    assert bench.group().freezer.version == bench.caps.freezer
    assert v1_bench.group().freezer.version == "v1"
    if bench.caps.freezer == "v2":
        assert not any("freezer" in path for path in bench.group().run_procs)


def test_open_after_a_restart(bench):
    made = bench.group()
    process = bench.start(made, ["/bin/sleep", "100"])
    later = CgroupTree(bench.caps, bench.tree.root)
    assert later.names() == ["1.0.1"]
    found = later.open("1.0.1")
    assert (found.mon_procs, found.run_procs, found.run_unified) == (made.mon_procs, made.run_procs, made.run_unified)
    anyio.run(found.kill)
    assert process.wait() == -9
    assert not found.populated()


def test_open_of_nothing_is_quiet(bench):
    ghost = bench.tree.open("77.0.1")
    assert not ghost.populated()
    assert ghost.usage().cpu_s == 0
    assert ghost.oom_kills() == 0 and ghost.resident_bytes() == 0
    anyio.run(ghost.kill)
    anyio.run(ghost.remove)
    assert bench.tree.names() == []


def test_prepare_and_create_may_be_repeated(bench):
    bench.tree.prepare()
    bench.tree.create("5.0.1", GENEROUS)
    bench.tree.create("5.0.1", replace(GENEROUS, memory_bytes=256 << 20))
    assert bench.tree.names() == ["5.0.1"]


def test_root_stays_while_a_job_is_left(bench):
    bench.group()
    with pytest.raises(StepFailed) as caught:
        bench.tree.remove_root()
    assert "1.0.1" in caught.value.hint


def test_remove_waits_for_a_dying_process(bench):
    """rmdir right after the kill meets EBUSY while the kernel still tears the big process down."""
    group = bench.group(replace(GENEROUS, memory_bytes=1 << 30))
    code = "x = bytearray(400 << 20); print('ready', flush=True); import signal; signal.pause()"
    process = bench.start(group, [sys.executable, "-c", code])
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    anyio.run(group.remove)
    assert bench.tree.names() == []


def test_remove_names_what_is_left_inside(bench, monkeypatch):
    monkeypatch.setattr("runtime.cgroups.group._REMOVE_DEADLINE_S", 0.05)
    group = bench.group()
    process = bench.start(group, ["/bin/sh", "-c", "echo ready; exec sleep 100"])
    process.stdout.readline()
    with pytest.raises(StepFailed) as caught:
        anyio.run(group.remove)
    assert str(process.pid) in caught.value.hint
    process.kill()


def test_a_limit_that_the_kernel_refuses_names_controller_and_file(bench):
    with pytest.raises(StepFailed) as caught:
        bench.group(replace(GENEROUS, cpus=(999,)))
    assert caught.value.step == "cgroup:cpuset"
    assert caught.value.path.endswith("cpuset.cpus")
    assert os.strerror(caught.value.errno) in str(caught.value)


def test_usage_counts(bench):
    group = bench.group()
    burn = "import os\nx=bytearray(32<<20)\nwhile sum(os.times()[:2]) < 0.3: pass"
    assert bench.python(group, burn)[0] == 0
    usage = group.usage()
    assert usage.cpu_s >= 0.25
    assert usage.cpu_user_s + usage.cpu_system_s == pytest.approx(usage.cpu_s, rel=0.5)
    assert usage.memory_peak_bytes >= 32 << 20
    assert usage.pids == 0 and usage.oom_kills == 0


def test_names_are_executions_only(bench):
    """Under systemd the root group holds the group of its idle holder too."""
    bench.group()
    other = f"{bench.caps.controllers['memory'].path}/{bench.tree.root}/holder"
    os.mkdir(other)
    try:
        assert bench.tree.names() == ["1.0.1"]
    finally:
        os.rmdir(other)
