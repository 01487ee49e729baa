"""A job that wants out of its place: other CPUs, other nodes, its own cpuset files. Each try has a control: the same
program, outside of a job, must succeed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from installation import Installation

from runtime import hostcaps

pytestmark = pytest.mark.needs("root", "numa.2", "cpus.4")

# Prints what succeeded, and to stderr the files it tried. Arguments: a CPU and a memory node that it was not given.
ESCAPE = r"""
import ctypes, glob, mmap, os, sys
cpu, node, *folders = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
numbers = {"x86_64": (237, 238, 256, 279), "aarch64": (235, 237, 238, 239)}  # asm/unistd_64.h, asm-generic/unistd.h
mbind, set_mempolicy, migrate_pages, move_pages = numbers[os.uname().machine]
call = ctypes.CDLL(None, use_errno=True).syscall
mask, every = ctypes.c_ulong(1 << node), ctypes.c_ulong(0xff)
BIND, STRICT_AND_MOVE, MOVE = 2, 3, 2  # linux/mempolicy.h
size = 1 << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))

def affinity():
    os.sched_setaffinity(0, {cpu})
    return os.sched_getaffinity(0) == {cpu}

def widened():
    os.sched_setaffinity(0, range(1024))
    return cpu in os.sched_getaffinity(0)

def policy():
    return call(set_mempolicy, BIND, ctypes.byref(mask), 64) == 0

def bound():
    return call(mbind, address, ctypes.c_ulong(size), BIND, ctypes.byref(mask), 64, STRICT_AND_MOVE) == 0

def moved():
    return call(migrate_pages, os.getpid(), 64, ctypes.byref(every), ctypes.byref(mask)) == 0

def page_moved():
    memory[0:1] = b"x"
    pages, nodes, status = (ctypes.c_void_p * 1)(address.value), (ctypes.c_int * 1)(node), (ctypes.c_int * 1)(-1)
    return call(move_pages, os.getpid(), ctypes.c_ulong(1), pages, nodes, status, MOVE) == 0 and status[0] == node

def rewritten():
    places = folders or ["/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*/")]
    for path in [f"{place.rstrip('/')}/cpuset.{kind}" for place in places for kind in ("cpus", "mems")]:
        if os.path.exists(path):
            print(path, file=sys.stderr)
            try:
                fd = os.open(path, os.O_WRONLY)
                os.write(fd, str(cpu if path.endswith("cpus") else node).encode())
                return True
            except OSError:
                pass
    return False

for attack in (widened, affinity, policy, bound, moved, page_moved, rewritten):
    try:
        if attack():
            print(attack.__name__, flush=True)
    except OSError:
        pass
"""
ALL = ["widened", "affinity", "policy", "bound", "moved", "page_moved", "rewritten"]


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with Installation() as running:
        yield running


@contextmanager
def own_cpuset(site: Installation) -> Iterator[str]:
    mount = hostcaps.probe(f"{site.settings['run_dir']}/cgroup").controllers["cpuset"].path
    folder = f"{mount}/{site.settings['cgroup_root']}/control"
    os.mkdir(folder)
    try:
        yield folder
    finally:
        os.rmdir(folder)


def test_a_job_does_not_get_out_of_its_place(site: Installation) -> None:
    job = site.submit(f"""
name = "escape"
command = ["/usr/bin/python3", "-c", {json.dumps(ESCAPE)}, "0", "0"]
run_as = "root"
resources = {{ cpus = 1, memory = "128MiB" }}
network = {{ mode = "none" }}
placement = {{ numa = [1] }}
""")
    assert site.wait(job) == 0, site.output(job, "--stderr")
    assert site.output(job).split() == []
    tried = site.output(job, "--stderr").split()
    assert [path.rpartition("/")[2] for path in tried] == ["cpuset.cpus", "cpuset.mems"], "it saw files of its own"


def test_the_same_program_outside_gets_anywhere(site: Installation) -> None:
    with own_cpuset(site) as folder:
        command = [sys.executable, "-c", ESCAPE, "0", "0", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ALL, done.stderr
