"""The memory limit bites, the kernel's own counter says so, and the monitor is never the victim."""

from __future__ import annotations

import signal
import subprocess
import sys

import anyio
import anyio.lowlevel
import pytest
from patience import PATIENCE_S

from runtime.cgroups import memory
from runtime.cgroups.files import exists, number, read, table, write
from runtime.cgroups.limits import Limits

MIB = 1 << 20
TOUCH = "import sys; x = bytearray(int(sys.argv[1]) << 20); print(len(x) >> 20)"


def test_over_the_limit_is_killed_and_counted(bench):
    group = bench.group(Limits(memory_bytes=48 * MIB))
    assert bench.python(group, TOUCH, "16")[:2] == (0, "16\n")
    assert group.oom_kills() == 0
    code, _, _ = bench.python(group, TOUCH, "200")
    assert code == -signal.SIGKILL
    # a group kill counts the first victim twice (Linux 6.1)
    assert 1 <= group.oom_kills() <= 2
    assert group.usage().oom_kills == group.oom_kills()
    assert group.usage().memory_peak_bytes <= 48 * MIB


PARENT_GOES_ON = """
import signal, subprocess, sys
child = subprocess.run([sys.executable, "-c", "x = bytearray(200 << 20)"])
print(child.returncode, flush=True)
signal.pause()
"""
ON_DEMAND = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print(flush=True)
signal.sigwait({signal.SIGUSR1})
"""


@pytest.mark.parametrize("kind", ["as-it-is", "v1"])
def test_all_die_when_one_is_killed_for_want_of_memory(request, caps, kind):
    """v2's kernel does it; on v1 the daemon. The control for v1: the parent is there after its child was killed."""
    bench = request.getfixturevalue("bench" if kind == "as-it-is" else "v1_bench")
    group = bench.group(Limits(memory_bytes=64 * MIB))
    process = bench.start(group, [sys.executable, "-I", "-S", "-c", PARENT_GOES_ON])
    if group.places["memory"].version == 1:
        assert process.stdout.readline() == b"-9\n"
        assert process.poll() is None and group.oom_kills() == 1
    anyio.run(group.kill_when_out_of_memory)
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    assert not group.populated()


def test_a_kill_that_comes_while_we_watch(v1_bench):
    group = v1_bench.group(Limits(memory_bytes=64 * MIB))
    process = v1_bench.start(group, [sys.executable, "-I", "-S", "-c", ON_DEMAND + PARENT_GOES_ON])
    process.stdout.readline()

    async def main() -> None:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(group.kill_when_out_of_memory)
                await anyio.lowlevel.checkpoint()  # it has armed its notice
                process.send_signal(signal.SIGUSR1)

    anyio.run(main)
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGKILL


def test_swap_is_shut_off_where_it_is_accounted(bench):
    group = bench.group(Limits(memory_bytes=48 * MIB, swap_bytes=0))
    place = group.places["memory"]
    memsw = f"{place.run}/memory.memsw.limit_in_bytes"
    if place.version == 1 and exists(memsw):
        assert number(memsw) == 48 * MIB
    elif place.version == 2:
        assert read(f"{place.run}/memory.swap.max") == "0"
    else:
        assert any("swap" in note for note in group.notes)


def test_limit_changes_in_both_directions(bench):
    group = bench.group(Limits(memory_bytes=64 * MIB, swap_bytes=16 * MIB))
    for size, swap in ((256, 0), (32, 64), (300, -1), (40, 0)):
        group.apply(Limits(memory_bytes=size * MIB, swap_bytes=swap * MIB if swap > 0 else swap))
    assert bench.python(group, TOUCH, "100")[0] == -signal.SIGKILL


@pytest.fixture
def tmpfs(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "jt-cg", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.parametrize("limit_on", ["run", "job"])
def test_monitor_is_not_the_victim(bench, tmpfs, limit_on):
    """A tiny writer fills a tmpfs beside a monitor of 30 MiB. `job` is the control: there the monitor dies."""
    group = bench.group(Limits(memory_bytes=100 * MIB if limit_on == "run" else 1 << 30))
    if limit_on == "job":
        place = group.places["memory"]
        name = "memory.limit_in_bytes" if place.version == 1 else "memory.max"
        write(f"{place.job}/{name}", str(100 * MIB))
    code = "x = bytearray(30 << 20); print(flush=True); import signal; signal.pause()"
    monitor = bench.start(group, [sys.executable, "-c", code], where="mon")
    monitor.stdout.readline()
    status, _, _ = bench.run(group, ["/bin/dd", "if=/dev/zero", f"of={tmpfs}/big", "bs=64k", "count=4000"])
    if limit_on == "run":
        assert status == -signal.SIGKILL and monitor.poll() is None and group.oom_kills() >= 1
    else:
        assert monitor.wait(timeout=PATIENCE_S) == -signal.SIGKILL


def test_resident_bytes(bench, tmpfs):
    """64 MiB anonymous, 32 MiB shared, 16 MiB locked (each counted once); page cache of a file is not resident."""
    code = f"""
import ctypes, mmap, signal
anon = bytearray(64 << 20)
shm = open("{tmpfs}/shared", "wb"); shm.write(bytes(32 << 20)); shm.flush()
lock = mmap.mmap(-1, 16 << 20); lock.write(b"x" * (16 << 20))
address = ctypes.addressof(ctypes.c_char.from_buffer(lock))
assert ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(16 << 20)) == 0
cached = open("{tmpfs.parent}/file", "wb"); cached.write(bytes(48 << 20)); cached.flush()
print(flush=True)
signal.pause()
"""
    group = bench.group(Limits(memory_bytes=400 * MIB))
    process = bench.start(group, [sys.executable, "-c", code])
    assert process.stdout.readline() == b"\n", process.stderr.read()
    assert (64 + 32 + 16) * MIB <= group.resident_bytes() <= (64 + 32 + 16 + 14) * MIB
    anyio.run(group.kill)


READ_AGAIN = """
import os, sys
size = int(sys.argv[2]) << 20
with open(sys.argv[1], "r+b", buffering=0) as file:
    if os.fstat(file.fileno()).st_size < size:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
        os.fsync(file.fileno())
    file.seek(0)
    while file.read(1 << 20):
        pass
"""


@pytest.fixture
def on_disk(tmp_path):
    """Two files whose page cache is a job's memory."""
    for name in ("one", "two"):
        (tmp_path / name).touch()
    return str(tmp_path / "one"), str(tmp_path / "two")


@pytest.mark.needs("cgroup2.memory")
def test_memory_high_takes_back_before_the_limit_kills(bench, on_disk):
    group = bench.group(Limits(memory_bytes=256 * MIB, memory_high_bytes=32 * MIB))
    assert bench.python(group, READ_AGAIN, on_disk[0], "96")[0] == 0
    place = group.places["memory"]
    events = table(f"{place.run}/memory.events")
    assert events["high"] > 0 and events["max"] == events["oom_kill"] == 0
    assert memory.peak_bytes(place) == 0 or memory.peak_bytes(place) < 64 * MIB
    group.apply(Limits(memory_bytes=256 * MIB))
    assert read(f"{place.run}/memory.high") == "max"


@pytest.mark.needs("cgroup2.memory")
@pytest.mark.parametrize("claimed", [64, 0])
def test_memory_min_keeps_the_cache_of_a_job(bench, on_disk, claimed):
    """Two jobs share 128 MiB; the second one reads much. `0` is the control: there the first one loses its cache."""
    first = bench.group(Limits(memory_bytes=128 * MIB, memory_min_bytes=claimed * MIB))
    second = bench.group(Limits(memory_bytes=128 * MIB))
    place = first.places["memory"]
    root = place.job.rpartition("/")[0]
    assert read(f"{root}/memory.min") == str(claimed * MIB)
    write(f"{root}/memory.max", str(128 * MIB))
    assert bench.python(first, READ_AGAIN, on_disk[0], "40")[0] == 0
    for _ in range(3):
        assert bench.python(second, READ_AGAIN, on_disk[1], "256")[0] == 0
    kept = table(f"{place.run}/memory.stat")["file"]
    assert kept >= 38 * MIB if claimed else kept < 20 * MIB
    anyio.run(first.remove)
    assert read(f"{root}/memory.min") == "0"


@pytest.mark.needs("cgroup2.memory")
def test_what_the_host_does_not_protect_is_told(caps, make_bench):
    bench = make_bench(caps)
    bench.tree.root += "/below"
    bench.tree.prepare()
    group = bench.group(Limits(memory_bytes=128 * MIB, memory_min_bytes=64 * MIB))
    (note,) = (note for note in group.notes if "memory_min" in note)
    above = group.places["memory"].job.removesuffix(f"/below/{group.execution_id}")
    assert f"{above}/memory.min" in note
    anyio.run(group.remove)
    bench.tree.remove_root()
    bench.tree.root = bench.tree.root.removesuffix("/below")


@pytest.mark.needs("cgroup1.memory")
def test_v1_says_that_it_has_neither(v1_bench):
    group = v1_bench.group(Limits(memory_bytes=128 * MIB, memory_high_bytes=64 * MIB))
    assert any("cgroup v1" in note and "memory_high" in note for note in group.notes)


def test_limit_is_whole_pages_and_read_back(bench):
    group = bench.group(Limits(memory_bytes=48 * MIB + 1))
    place = group.places["memory"]
    shown = number(f"{place.run}/{'memory.limit_in_bytes' if place.version == 1 else 'memory.max'}")
    assert shown == 48 * MIB
