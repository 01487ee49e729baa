"""net_cls and net_prio mounted by two processes in two mount namespaces are one hierarchy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from patience import PATIENCE_S

from runtime.cgroups import private_mounts
from runtime.cgroups.private_mounts import (
    enabled_hierarchies,
    joined,
    mount_points,
    mounted_controllers,
)

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:39 / /run/with\\040blank rw,relatime - cgroup jobs rw,net_cls
"""
CGROUPS = """\
#subsys_name	hierarchy	num_cgroups	enabled
cpuset	3	1	1
net_cls	5	1	1
perf_event	0	1	1
net_prio	5	1	1
hugetlb	0	1	0
pids	8	1	1
"""


def test_parsing():
    assert mounted_controllers(MOUNTS, "/run") >= {"memory", "cpu", "cpuacct", "net_cls"}
    assert "net_cls" not in mounted_controllers(MOUNTS, "/run/another"), "that daemon may stop any time"
    assert mount_points(MOUNTS, "cgroup2") == ["/sys/fs/cgroup/unified"]
    assert mount_points(MOUNTS, "cgroup")[-1] == "/run/with blank"
    hierarchies = enabled_hierarchies(CGROUPS)
    assert "hugetlb" not in hierarchies and hierarchies["pids"] == 8
    assert joined("net_cls", hierarchies) == "net_cls,net_prio"
    assert joined("perf_event", hierarchies) == "perf_event"


@pytest.fixture
def in_own_namespace():
    """Runs Python code in a process with a mount namespace of its own, which lives until the end of the test."""
    started = []

    def run(code: str, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["unshare", "--mount", sys.executable, "-c", code, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.communicate(timeout=PATIENCE_S)


FRESH = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
from runtime import syscalls
from runtime.cgroups import private_mounts
NET = private_mounts.NET_CONTROLLERS
def mountinfo():
    return open("/proc/self/mountinfo").read()
for point in reversed(private_mounts.mount_points(mountinfo(), "cgroup")):
    if "net_" in point:
        syscalls.umount2(point)  # as if nobody had mounted them before this namespace was made
"""


@pytest.mark.parametrize("first", [0, 1])
def test_same_paths_and_groups_from_two_namespaces(caps, in_own_namespace, tmp_path, first):
    """Daemon and launcher mount for themselves, in either order: a group that one makes is there for the other."""
    directory = str(tmp_path / "cgroup")
    code = """
made = private_mounts.mount_missing(sys.argv[1], NET)
assert set(NET) <= private_mounts.mounted_controllers(mountinfo(), sys.argv[1])
print(*sorted(made.values()), flush=True)
for order in sys.stdin:
    verb, path = order.split()
    print({"mkdir": os.mkdir, "rmdir": os.rmdir, "see": os.path.exists}[verb](path), flush=True)
"""
    pair = [in_own_namespace(FRESH + code, directory) for _ in range(2)]
    mounted = [process.stdout.readline().split() for process in (pair[first], pair[1 - first])]
    assert mounted[0] == mounted[1]
    assert mounted[0], "one mount for each, or one for both where the host keeps them together"

    def ask(process, verb, path):
        print(verb, path, file=process.stdin, flush=True)
        return process.stdout.readline().strip()

    for hierarchy in mounted[0]:
        assert hierarchy.startswith(f"{directory}/net_")
        group = f"{hierarchy}/jt-cg-{os.getpid()}-ns"
        assert ask(pair[0], "mkdir", group) == "None"
        assert ask(pair[1], "see", f"{group}/cgroup.procs") == "True"
        assert ask(pair[1], "rmdir", group) == "None"
        assert ask(pair[0], "see", group) == "False"


def test_mounted_once_and_taken_down(in_own_namespace, tmp_path):
    """A second call mounts nothing; unmount removes mounts and folders, and nothing else."""
    code = """
directory = sys.argv[1]
first = private_mounts.mount_missing(directory, NET)
assert set(NET) <= private_mounts.mounted_controllers(mountinfo(), sys.argv[1])
again = private_mounts.mount_missing(directory, NET)
before = mountinfo()
assert all(point in before for point in first.values())
gone = private_mounts.unmount(directory)
print(again, sorted(gone) == sorted(first.values()), os.path.exists(directory), "net_" in mountinfo())
"""
    out, _ = in_own_namespace(FRESH + code, str(tmp_path / "cgroup")).communicate(timeout=20)
    assert out == "{} True False False\n"


def test_unmount_of_nothing(tmp_path):
    assert private_mounts.unmount(str(tmp_path / "none")) == []
