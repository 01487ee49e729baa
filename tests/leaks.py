"""What a test may have left on the host: links, mounts, cgroups, tables, loop devices, sysctls, processes, descriptors.

A Picture is taken before and after; `left` names what is new. Namespaces die a moment after their last process, so
`wait_clean` looks again until a deadline. Only whole-host facts: run nothing else that makes any of these meanwhile.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

RUN_MARK = "TEST_RUN_ID"  # in the environment of every process that a test starts
SYSCTLS = (
    "net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward_update_priority", "net/bridge/bridge-nf-call-iptables", "kernel/core_pattern",
)  # fmt: skip
_NAMESPACE_OR_PIDFD = re.compile(r"(net|user|mnt|pid|ipc|uts|cgroup|time):\[|anon_inode:\[pidfd\]")


@dataclass(frozen=True)
class Picture:
    """kind → how often each thing is there."""

    things: dict[str, Counter[str]] = field(default_factory=dict)

    def left(self, before: Picture) -> list[str]:
        """`mount /x`, `link veth3` … that were not there before; changed sysctls too."""
        return [
            f"{kind} {thing} {_command(thing)}".rstrip() if kind == "process" else f"{kind} {thing}"
            for kind, now in self.things.items()
            for thing in sorted((now - before.things.get(kind, Counter())).elements())
        ]


def take(run_id: str = "") -> Picture:
    """With `run_id`, also the processes of that run and the descriptors of this one."""
    things = {
        "link": Counter(os.listdir("/sys/class/net")),
        "mount": Counter(line.split(" ")[4] for line in _lines("/proc/self/mountinfo")),
        "cgroup": Counter(_cgroups()),
        "netns": Counter(_listed("/run/netns")),
        "nft table": Counter(_nft_tables()),
        "loop device": Counter(_loops()),
        "sysctl": Counter(f"{name}={value}" for name in SYSCTLS for value in _lines(f"/proc/sys/{name}")),
    }
    if run_id:
        things["process"] = Counter(_processes(run_id))
        things["descriptor"] = Counter(_descriptors())
    return Picture(things)


def wait_clean(before: Picture, run_id: str = "", deadline_s: float = 15) -> list[str]:
    """What is still left at the deadline; empty as soon as nothing is."""
    end = time.monotonic() + deadline_s
    while left := take(run_id).left(before):
        if time.monotonic() > end:
            return left
        time.sleep(0.02)
    return []


def polled(ready: Callable[[], object], deadline_s: float) -> bool:
    """Whether a condition of the outside world came true before the deadline."""
    end = time.monotonic() + deadline_s
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _cgroups() -> list[str]:
    """Groups that neither systemd nor a container engine made; beside the tests' own, others come and go."""
    own = {path.split("/")[1] for path in (line.split(":", 2)[2] for line in _lines("/proc/self/cgroup"))}
    points = [line.split(" ")[4] for line in _lines("/proc/self/mountinfo") if re.search(r" - cgroup2? ", line)]
    found = []
    for point in points:
        for folder, below, _ in os.walk(point):
            below[:] = [name for name in below if not name.endswith((".slice", ".scope", ".service", ".mount"))]
            if folder == point:
                below[:] = [name for name in below if name not in own]
            found += [f"{folder}/{name}" for name in below]
    return found


def _nft_tables() -> list[str]:
    try:
        done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return done.stdout.splitlines()


def _loops() -> list[str]:
    return [" ".join(_lines(str(path))) for path in Path("/sys/block").glob("loop*/loop/backing_file")]


def _processes(run_id: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            marked = f"{RUN_MARK}={run_id}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked and int(pid) != os.getpid():
            found.append(pid)
    return found


def _command(pid: str) -> str:
    """For the message only: a process that execs is still the same one."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _descriptors() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if _NAMESPACE_OR_PIDFD.match(target):
            found.append(target.partition("[")[0])
    return found
