"""`jobsd doctor` on real and on strange hosts: it agrees with what tests need, leaves nothing, and never breaks down.

A strange host is this one in a mount namespace where something is covered, or behind a filter of system calls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import capabilities
import pytest
from killing_filter import KILL_UNSHARE

pytestmark = pytest.mark.needs("root")
ROOT = Path(__file__).resolve().parents[2]
DOCTOR = [sys.executable, "-c", "from scheduler.program import main; main()", "doctor"]
BINDING = "/usr/lib/python3/dist-packages/nftables"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[dict[str, str]]:
    name = f"jdt{os.getpid() % 100000}"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("JOBS_")}
    ours = {
        "JOBS_STATE_DIR": str(tmp_path / "state"), "JOBS_RUN_DIR": str(tmp_path / "run"), "JOBS_CGROUP_ROOT": name,
        "JOBS_BRIDGE": name, "JOBS_NFT_TABLE": name, "JOBS_SUBNET": "10.251.0.0/24",
    }  # fmt: skip
    yield {**clean, **ours}


def doctor(env: dict[str, str], *before: str, status: int | None = None) -> dict[str, Any]:
    """`before`: a shell command in a mount namespace of its own, before the doctor looks."""
    argv = [*DOCTOR, "--json"]
    if before:
        argv = ["unshare", "--mount", "sh", "-e", "-c", f"{'; '.join(before)}; exec \"$@\"", "sh", *argv]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (0, 3) and done.stderr == "", done.stderr
    assert status is None or done.returncode == status, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def named(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next((each for each in found["findings"] if each["name"] == name), {})


def groups() -> set[str]:
    return {str(path) for path in Path("/sys/fs/cgroup").glob("**/jobs-doctor-*")}


def test_nothing_is_left_and_nothing_was_made(settings: dict[str, str], tmp_path: Path) -> None:
    modules, sysctls = sorted(os.listdir("/sys/module")), Path("/proc/sys/net/ipv4/ip_forward").read_text()
    mounts = Path("/proc/self/mountinfo").read_text()
    found = doctor(settings)
    assert found["facts"]["tries"].get("links", [True])[0]
    assert groups() == set() and os.listdir(tmp_path) == []
    assert settings["JOBS_BRIDGE"] not in os.listdir("/sys/class/net")
    assert sorted(os.listdir("/sys/module")) == modules
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == sysctls
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_it_agrees_with_what_this_host_promises_to_tests(settings: dict[str, str]) -> None:
    facts = doctor(settings)["facts"]
    controllers = {name: version for name, (version, _) in facts["caps"]["controllers"].items()}
    for name in ("memory", "cpu", "cpuset", "pids"):
        v1, v2 = (not capabilities.missing(f"cgroup{version}.{name}") for version in (1, 2))
        assert controllers.get(name) == (1 if v1 else 2 if v2 else None), name
    assert bool(facts["caps"]["unified"]) == (not capabilities.missing("cgroup2"))
    for kind in ("net", "user", "time"):
        assert facts["tries"][f"namespace:{kind}"][0] == (not capabilities.missing(f"{kind}ns"))
    assert (facts["wires"]["binding"] == "") == (not capabilities.missing("nft"))
    assert facts["tries"].get("loop", [None])[0] in (None, not capabilities.missing("loop"))
    assert bool(facts["init_program"]) >= (not capabilities.missing("tool.catatonit"))


def test_groups_that_can_t_be_made(settings: dict[str, str]) -> None:
    """As in a container whose engine gives groups to look at."""
    points = sorted({each["point"] for each in doctor(settings)["facts"]["hierarchies"]})
    found = doctor(settings, *(f"mount -o remount,bind,ro {point}" for point in points), status=3)
    finding = named(found, "groups of jobs")
    assert finding["state"] == "fatal" and "EROFS: Read-only file system" in finding["seen"]
    assert groups() == set()


def test_no_cgroups_to_be_seen(settings: dict[str, str]) -> None:
    found = doctor(settings, "umount -R /sys/fs/cgroup 2>/dev/null || mount -t tmpfs none /sys/fs/cgroup", status=3)
    assert named(found, "hierarchies")["state"] == "fatal"


def test_neither_sys_nor_a_whole_proc(settings: dict[str, str]) -> None:
    covered = ("cgroups", "filesystems", "meminfo", "net/route")
    masks = [f"mount --bind /dev/null /proc/{name}" for name in covered]
    found = doctor(settings, "mount -t tmpfs none /sys", "mount -t tmpfs none /proc/sys", *masks)
    assert found["facts"]["core"]["memory_bytes"] == 0 and found["facts"]["sysctls"] == {}


def test_no_proc_at_all(settings: dict[str, str]) -> None:
    found = doctor(settings, "mount -t tmpfs none /proc", status=3)
    assert named(found, "capabilities")["state"] == "fatal"


@pytest.mark.needs("nft")
def test_without_the_binding_of_nftables(settings: dict[str, str]) -> None:
    found = doctor(settings, f"mount -t tmpfs none {BINDING}", status=3)
    assert named(found, "nftables")["state"] == "fatal" and named(found, "nftables")["stops"] == ["jobsd"]


def test_without_a_pid_1_for_jobs(settings: dict[str, str]) -> None:
    programs = doctor(settings)["facts"]["programs"]
    covered = [f"mount --bind /dev/null {programs[name]}" for name in ("catatonit", "tini-static") if programs[name]]
    assert named(doctor(settings, *covered, status=3), "pid 1 of jobs")["stops"] == ["jobsd"]


def test_a_masked_proc_is_no_hindrance_to_the_host_s_own_root(settings: dict[str, str]) -> None:
    """Not in a user namespace: there the kernel refuses a whole one (fs/namespace.c, mount_too_revealing)."""
    found = doctor(settings, "mount -t tmpfs -o ro none /proc/acpi 2>/dev/null || mount --bind /dev/null /proc/kcore")
    assert found["facts"]["tries"]["mount:proc"][0] is True


def test_a_filter_that_kills_for_a_call_is_survived(settings: dict[str, str]) -> None:
    """Each try in its own child: what needs no unshare(2) is still told."""
    install = (
        "import os, sys; from runtime import syscalls as sc; sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1); "
        f"sc.seccomp_set_filter({KILL_UNSHARE!r}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    argv = [sys.executable, "-c", install, *DOCTOR, "--json"]
    done = subprocess.run(argv, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert found["facts"]["tries"]["namespace:net"] == [False, "killed by SIGSYS"]
    assert found["facts"]["tries"]["call:clone3"][0] is True
    assert "killed by SIGSYS" in named(found, "kinds")["seen"]


def test_a_plain_user_hears_what_can_be_read(settings: dict[str, str]) -> None:
    """The interpreter may lie where that user can't go: everything is imported before."""
    become = (
        "import sys, os; sys.argv[0] = 'jobsd'; import encodings.idna, scheduler.doctor.command, scheduler.program; "
        "import netbridge.trial, anyio._backends._asyncio; "
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534); "
        "scheduler.program.main()"
    )
    argv = [sys.executable, "-c", become, "doctor", "--json"]
    done = subprocess.run(argv, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert named(found, "root")["state"] == "limited" and "fatal" not in {each["state"] for each in found["findings"]}
    assert {each["seen"] for each in found["findings"] if each["state"] == "unknown"} == {"only root can tell"}


def test_what_it_prints_names_neither_host_nor_hardware(settings: dict[str, str]) -> None:
    text = json.dumps(doctor(settings))
    macs = {path.read_text().strip() for path in Path("/sys/class/net").glob("*/address")} - {"00:00:00:00:00:00"}
    assert not [each for each in (os.uname().nodename, *macs) if len(each) > 3 and each in text]


@pytest.mark.needs("nft", "netns", "tool.nft")
def test_another_firewall_is_named_with_the_rule_that_lets_jobs_through(settings: dict[str, str]) -> None:
    """In a network namespace of its own; where nftables is a module that is not loaded, nobody has rules."""
    table = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"
    argv = ["unshare", "--net", "sh", "-ec", 'nft "$0"; exec "$@"', table, *DOCTOR, "--json"]
    done = subprocess.run(argv, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    finding = named(json.loads(done.stdout), "another firewall")
    assert finding["state"] == "limited" and "ip table filter, chain FORWARD" in finding["seen"]
    assert finding["mends"].startswith(f"iptables -I FORWARD -i {settings['JOBS_BRIDGE']} -j ACCEPT")


@pytest.mark.needs("cgroup2.pids")
def test_a_group_that_others_live_in_is_no_place_for_jobs(settings: dict[str, str]) -> None:
    """With controllers of v2 only: without any to pass on nothing is in the way."""
    point = doctor(settings)["facts"]["caps"]["unified"]
    group = Path(point) / settings["JOBS_CGROUP_ROOT"]
    Path(f"{point}/cgroup.subtree_control").write_text("+pids")
    group.mkdir()
    sleeper = subprocess.Popen(["sleep", "infinity"])
    try:
        (group / "cgroup.procs").write_text(str(sleeper.pid))
        inside = {**settings, "JOBS_CGROUP_ROOT": f"{group.name}/jobs"}
        finding = named(doctor(inside, status=3), "room for jobs")
        assert finding["stops"] == ["jobsd"] and finding["seen"].startswith(f"{group} holds processes")
    finally:
        sleeper.kill()
        sleeper.wait()
        group.rmdir()
