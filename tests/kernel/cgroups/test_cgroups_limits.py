"""pids, hugetlb, disk rates, net_cls and net_prio: written, read back, and felt by a program."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import anyio
import pytest

from jobs.errors import StepFailed
from jobs.priority_class import PriorityClass
from runtime.cgroups.blkio import BUFFERED_WRITES
from runtime.cgroups.devices import rule_for
from runtime.cgroups.files import number, put, read, table, write
from runtime.cgroups.limits import Limits

MIB = 1 << 20
GENEROUS = Limits(memory_bytes=256 * MIB)


def test_pids(bench):
    group = bench.group(replace(GENEROUS, pids=5))
    code = """
import os
children = 0
try:
    while True:
        if os.fork() == 0:
            import signal
            signal.pause()
        children += 1
except OSError as refused:
    print(children, refused.strerror, flush=True)
os._exit(0)
"""
    process = bench.start(group, [sys.executable, "-c", code])
    assert process.stdout.readline() == b"4 Resource temporarily unavailable\n"
    assert group.usage().pids == 5
    anyio.run(group.kill)


def test_unlimited_pids(bench):
    group = bench.group(replace(GENEROUS, pids=-1))
    assert read(f"{group.places['pids'].run}/pids.max") == "max"


MAP_HUGE = """
import mmap, sys
try:
    area = mmap.mmap(-1, int(sys.argv[1]) * (2 << 20), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
    area[0] = 1
    area[len(area) - 1] = 1
    print("ok")
except OSError as refused:
    print(refused.strerror)
"""


@pytest.fixture
def huge_pages():
    """Eight pages of 2 MiB in the host's pool, given back afterwards."""
    path = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    before = read(path)
    put(path, str(int(before) + 8))
    yield
    put(path, before)


def test_huge_pages(bench, huge_pages):
    given = bench.group(replace(GENEROUS, hugepages=((2 * MIB, 4),)))
    assert bench.python(given, MAP_HUGE, "4")[1] == "ok\n"
    assert bench.python(given, MAP_HUGE, "5")[1] == "Cannot allocate memory\n"
    none = bench.group(GENEROUS)
    assert bench.python(none, MAP_HUGE, "1")[1] == "Cannot allocate memory\n"


def test_huge_pages_of_an_unknown_size_name_the_file(bench):
    with pytest.raises(StepFailed) as caught:
        bench.group(replace(GENEROUS, hugepages=((3 * MIB, 1),)))
    assert caught.value.step == "cgroup:hugetlb" and "hugetlb.3MB" in caught.value.path


@pytest.fixture
def loop_device(tmp_path):
    """A block device of our own, 64 MiB."""
    backing = tmp_path / "disk"
    backing.write_bytes(b"\1" * (64 * MIB))
    name = subprocess.run(["losetup", "--find", "--show", backing], check=True, capture_output=True, text=True)
    yield name.stdout.strip()
    subprocess.run(["losetup", "--detach", name.stdout.strip()], check=True)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_disk_rate(bench, loop_device, direction):
    """4 MiB at 2 MiB/s need more than a second, however fast the disk; the control is the same copy without a limit."""
    device = os.stat(loop_device).st_rdev
    number_pair = (os.major(device), os.minor(device))
    rates = {f"io_{direction}_bytes_s": 2 * MIB}
    bench.tree.prepare(io_devices=(number_pair,))
    limits = replace(GENEROUS, io_devices=(number_pair,), devices=(*GENEROUS.devices, rule_for(loop_device)))
    copy = ["/bin/dd", "bs=256k", "count=16"] + (
        [f"if={loop_device}", "of=/dev/null", "iflag=direct"]
        if direction == "read"
        else ["if=/dev/zero", f"of={loop_device}", "oflag=direct"]
    )
    took = {}
    for name, wanted in (("limited", replace(limits, **rates)), ("free", limits)):
        group = bench.group(wanted)
        code, _, err = bench.run(group, copy)
        assert code == 0, err
        usage = group.usage()
        moved = usage.io_read_bytes if direction == "read" else usage.io_write_bytes
        uncounted = group.places["io"].version == 1 and name == "free" and moved == 0  # Linux 6.1 counts limited groups
        assert 4 * MIB <= moved < 5 * MIB or uncounted
        took[name] = float(err.splitlines()[-1].split(",")[-2].split()[0])
        if name == "limited" and direction == "write" and group.places["io"].version == 1:
            assert BUFFERED_WRITES in group.notes
    assert took["limited"] > 1.0, took
    assert took["limited"] > 2 * took["free"], took


def test_disk_rate_is_taken_away_again(bench, loop_device):
    device = os.stat(loop_device).st_rdev
    pair = (os.major(device), os.minor(device))
    group = bench.group(replace(GENEROUS, io_devices=(pair,), io_read_bytes_s=MIB))
    place = group.places["io"]
    path = f"{place.run}/{'blkio.throttle.read_bps_device' if place.version == 1 else 'io.max'}"
    assert f"{pair[0]}:{pair[1]}" in read(path)
    group.apply(GENEROUS)
    assert read(path) == ""


def test_io_weight_goes_to_every_scheduler_or_is_told_to_be_ignored(bench):
    """`io.weight` is there with the cost model compiled in, heeded where it is switched on; BFQ has its own file."""
    group = bench.group(replace(GENEROUS, io_weight=500))
    job = group.places["io"].job
    expected = {"io.weight": "500", "io.bfq.weight": "136", "blkio.bfq.weight": "136"}
    shown = {name: read(f"{job}/{name}") for name in expected if os.path.exists(f"{job}/{name}")}
    assert {name: text.splitlines()[0].split()[-1] for name, text in shown.items()} == {
        name: expected[name] for name in shown
    }
    ignored = any("io.weight is ignored" in note for note in group.notes)
    assert ignored == (not {"io.bfq.weight", "blkio.bfq.weight"} & set(shown))
    group.apply(GENEROUS)
    assert not any("io.weight" in note for note in group.notes)  # nobody asked for one


def test_io_weight_of_a_disk_with_bfq(bench, loop_device):
    """The scheduler brings its file along when the first disk takes it."""
    scheduler = f"/sys/block/{os.path.basename(loop_device)}/queue/scheduler"
    try:
        write(scheduler, "bfq")
    except OSError:
        pytest.skip("needs bfq: this kernel has no such I/O scheduler")
    group = bench.group(replace(GENEROUS, io_weight=10_000))
    job = group.places["io"].job
    name = "io.bfq.weight" if group.places["io"].version == 2 else "blkio.bfq.weight"
    assert read(f"{job}/{name}").splitlines()[0].split()[-1] == "1000"
    assert not any("io.weight" in note for note in group.notes)
    write(scheduler, "none")


def test_net_class(bench):
    group = bench.group(replace(GENEROUS, class_id=PriorityClass.HIGH.skb_priority))
    assert number(f"{group.places['net_cls'].run}/net_cls.classid") == PriorityClass.HIGH.skb_priority


def test_net_priority_per_interface(bench):
    names = sorted(os.listdir("/sys/class/net"))[:2]
    priority = PriorityClass.REALTIME.skb_priority
    pairs = tuple((name, priority) for name in names)
    group = bench.group(replace(GENEROUS, interface_priorities=(*pairs, ("jt-cg-gone0", 1))))
    shown = table(f"{group.places['net_prio'].run}/net_prio.ifpriomap")
    assert [shown[name] for name in names] == [priority] * len(names)
    assert any("jt-cg-gone0" in note for note in group.notes)
    group.apply(replace(GENEROUS, interface_priorities=tuple((name, 7) for name in names)))
    shown = table(f"{group.places['net_prio'].run}/net_prio.ifpriomap")
    assert [shown[name] for name in names] == [7] * len(names)
