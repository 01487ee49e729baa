"""What keeps jobs in: the filter of system calls, Landlock, devices, the security modules of the host. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scheduler.doctor.facts import Facts
from scheduler.doctor.finding import JOBSD, LAUNCHER, Finding, ok
from scheduler.doctor.packages import install

if TYPE_CHECKING:
    from config.settings import Settings


def protection(facts: Facts, settings: Settings) -> Iterator[Finding]:
    yield from _seccomp(facts)
    yield from _devices(facts)
    if facts.tried("landlock") is False:
        yield Finding(
            "protection",
            "Landlock",
            "limited",
            facts.said("landlock"),
            "one fence less around the unpacking of images; the others stand",
            "Linux 5.13 or later, and landlock among lsm= at boot",
        )
    if facts.selinux == "enforcing":
        yield Finding(
            "protection",
            "SELinux",
            "limited",
            "enforcing",
            "jobsd ships no policy for it: a denied step of a job is told as Permission denied",
            "ausearch -m avc -ts recent; a policy of your own, or setenforce 0 to see whether it is the reason",
            "/sys/fs/selinux/enforce",
        )
    present = [f"Landlock ABI {facts.said('landlock')}"] if facts.tried("landlock") else []
    present += [name for name in facts.lsms if name in ("apparmor", "selinux", "yama", "bpf")]
    yield ok("protection", "modules", ", ".join(present) or "none is to be seen")


def _seccomp(facts: Facts) -> Iterator[Finding]:
    costs = "no job can start: none runs without the filter of system calls"
    if facts.seccomp_policy:
        mends = install(facts.family, "libseccomp2")
        yield Finding("protection", "seccomp", "fatal", facts.seccomp_policy, costs, mends, stops=(JOBSD,))
    elif facts.tried("seccomp") is False:
        seen = facts.said("seccomp")
        mends = "a kernel with CONFIG_SECCOMP_FILTER=y"
        yield Finding("protection", "seccomp", "fatal", seen, costs, mends, stops=(LAUNCHER,))
    else:
        yield ok("protection", "seccomp", "filter compiled" + (" and taken" * bool(facts.tried("seccomp"))))


def _devices(facts: Facts) -> Iterator[Finding]:
    """v2 knows no devices controller: a BPF program does its work."""
    mount = facts.caps.controllers.get("devices")
    if mount is None or mount.version == 1:
        return
    if facts.tried("bpf:devices") is False:
        yield Finding(
            "protection",
            "devices",
            "missing",
            f"a device program is refused: {facts.said('bpf:devices')}",
            "resources.devices is refused; what other jobs may open is held by their mounts and ids alone",
            "a kernel with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL",
        )
    elif facts.tried("bpf:devices"):
        yield ok("protection", "devices", "by BPF programs")
