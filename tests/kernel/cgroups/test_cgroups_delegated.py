"""A daemon that starts in the root of a subtree that was delegated to it, as in a container: with a shell beside it in
the same group. v2 gives controllers only to groups whose parent holds no process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from leaks import polled
from patience import PATIENCE_S

from jobs.errors import StepFailed
from runtime import hostcaps
from runtime.cgroups import vacate
from runtime.cgroups.tree import CgroupTree

pytestmark = pytest.mark.needs("cgroup2.memory", "cgroup2.cpu", "cgroup2.pids")
PROJECT = Path(__file__).parents[3]
WANTED = ("cpu", "memory", "pids")  # what the container is given; not cpuset, nor io

DAEMON = """
import json, os, sys
from runtime import hostcaps, syscalls
from runtime.cgroups.limits import Limits
from runtime.cgroups.tree import CgroupTree

place, point = sys.argv[1:]
syscalls.unshare(syscalls.CLONE_NEWCGROUP | syscalls.CLONE_NEWNS)
syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
syscalls.mount("cgroup2", point, "cgroup2")
caps = hostcaps.probe()
tree = CgroupTree(caps, "jobs")
tree.prepare()
tree.prepare()  # as the next daemon does
group = tree.create("1.0.1", Limits(memory_bytes=64 << 20, pids=7))
print(json.dumps({
    "unified": caps.unified,
    "controllers": sorted(name for name, mount in caps.controllers.items() if mount.version == 2),
    "me": open("/proc/self/cgroup").read().split("::")[1].strip(),
    "memory": open(f"{group.run_unified}/memory.max").read().strip(),
    "pids": open(f"{group.run_unified}/pids.max").read().strip(),
}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def unified() -> str:
    return hostcaps.find_unified(hostcaps.parse_mountinfo(Path("/proc/self/mountinfo").read_text()))


@pytest.fixture
def subtree(unified: str) -> Iterator[Path]:
    """A group with some controllers, as a container engine makes it. Emptied and removed with all below."""
    Path(unified, "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in WANTED))
    made = Path(unified, f"jt-delegated-{os.getpid()}")
    (made / "root").mkdir(parents=True)
    (made / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in WANTED))
    yield made / "root"
    (made / "cgroup.kill").write_text("1")
    assert polled(lambda: "populated 0" in (made / "cgroup.events").read_text(), 20)
    for folder, _, _ in os.walk(made, topdown=False):
        os.rmdir(folder)


def inside(group: Path, *argv: str) -> subprocess.Popen[str]:
    script = f'echo 0 > {group}/cgroup.procs && exec "$@"'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", *argv], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_its_processes_move_to_a_leaf(subtree: Path, tmp_path: Path) -> None:
    shell = inside(subtree, "/bin/sh", "-c", "echo up; read line")
    assert shell.stdout and shell.stdout.readline() == "up\n"
    daemon = inside(subtree, sys.executable, "-c", DAEMON, str(subtree), str(tmp_path))
    assert daemon.stdout
    found = json.loads(daemon.stdout.readline())
    assert found == {
        "unified": str(tmp_path), "me": f"/{vacate.LEAF}", "memory": str(64 << 20), "pids": "7",
        "controllers": ["cpu", "cpuacct", "devices", "freezer", "memory", "pids"],
    }  # fmt: skip
    leaf = (subtree / vacate.LEAF / "cgroup.procs").read_text().split()
    assert {str(shell.pid), str(daemon.pid)} == set(leaf)
    assert (subtree / "cgroup.procs").read_text() == ""
    for process in (shell, daemon):
        process.communicate("\n", timeout=PATIENCE_S)


def test_a_group_that_systemd_delegated(subtree: Path, unified: str) -> None:
    os.setxattr(subtree, "trusted.delegate", b"1")
    guest = inside(subtree, "/bin/sh", "-c", "echo up; read line")
    assert guest.stdout and guest.stdout.readline() == "up\n"
    tree = CgroupTree(_offering(WANTED, unified), f"{subtree.relative_to(unified)}/jobs")
    tree.prepare()
    assert (subtree / vacate.LEAF / "cgroup.procs").read_text().split() == [str(guest.pid)]
    guest.communicate("\n", timeout=PATIENCE_S)


def test_elsewhere_nobody_is_moved(subtree: Path, unified: str) -> None:
    stranger = inside(subtree, "/bin/sh", "-c", "echo up; read line")
    assert stranger.stdout and stranger.stdout.readline() == "up\n"
    tree = CgroupTree(_offering(WANTED, unified), f"{subtree.relative_to(unified)}/jobs")
    with pytest.raises(StepFailed, match="busy") as refused:
        tree.prepare()
    assert "let them live in a group below it" in refused.value.hint
    assert (subtree / "cgroup.procs").read_text().split() == [str(stranger.pid)]
    stranger.communicate("\n", timeout=PATIENCE_S)


def test_the_roots_own_processes_stay(unified: str) -> None:
    """The root of the host may hold processes and pass on: kernel threads live there."""
    assert not vacate.may_vacate(unified, unified)


def _offering(controllers: tuple[str, ...], unified: str) -> hostcaps.HostCaps:
    """This host as if it had these only."""
    caps = hostcaps.probe()
    kept = {name: mount for name, mount in caps.controllers.items() if name in controllers}
    return hostcaps.replace(caps, controllers=kept, unified=unified)
