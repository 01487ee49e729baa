"""Priority on the wire: counted in HTB classes behind an uplink, never read back from the file that was written.

The uplink is a veth pair of the test's own: HTB on our end, the other end in a network namespace of the test's own.
It stands in the first network namespace because net_prio maps only devices of that one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from installation import Installation, wait_for

from jobs.priority_class import HTB_MAJOR, PriorityClass
from runtime import hostcaps
from runtime.cgroups import private_mounts
from runtime.cgroups.limits import Limits
from runtime.cgroups.net_priority import carriers
from runtime.cgroups.tree import CgroupTree

UPLINK = f"jbu{os.getpid() % 100000}"
NETNS = f"jbu-test-{os.getpid()}"
HERE, THERE = "10.251.77.1", "10.251.77.2"

SENDER = f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(b"x" * 200, ("{THERE}", 9))
    time.sleep(0.005)
"""


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def uplink() -> Iterator[None]:
    known = os.path.ismount("/run/netns")
    run("ip", "netns", "add", NETNS)
    try:
        run("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "peer0", "netns", NETNS)
        run("ip", "addr", "add", f"{HERE}/30", "dev", UPLINK)
        run("ip", "link", "set", UPLINK, "up")
        run("ip", "-n", NETNS, "addr", "add", f"{THERE}/30", "dev", "peer0")
        run("ip", "-n", NETNS, "link", "set", "peer0", "up")
        run("tc", "qdisc", "add", "dev", UPLINK, "root", "handle", f"{HTB_MAJOR:x}:", "htb", "default", "99")
        for minor in (*(one.minor for one in PriorityClass), 0x99):
            run("tc", "class", "add", "dev", UPLINK, "parent", f"{HTB_MAJOR:x}:", "classid",
                f"{HTB_MAJOR:x}:{minor:x}", "htb", "rate", "100mbit")  # fmt: skip
        yield
    finally:
        subprocess.run(["ip", "link", "del", UPLINK], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", NETNS], capture_output=True, check=False)
        if not known:  # the first `ip netns add` on a host makes it a mount
            run("umount", "/run/netns")


@pytest.fixture(scope="module", params=["true", "false"], ids=["net-controllers", "without"])
def wire_site(request: pytest.FixtureRequest, uplink: None) -> Iterator[Installation]:
    """With net_prio and net_cls mounted by the daemon where the kernel has them, and as a host that has neither."""
    with Installation(mount_net_controllers=request.param) as site:
        yield site


def packets() -> dict[int, int]:
    """Packets sent so far by class minor."""
    text = run("tc", "-s", "class", "show", "dev", UPLINK)
    found = re.findall(r"class htb [0-9a-f]+:([0-9a-f]+).*?Sent \d+ bytes (\d+) pkt", text, re.DOTALL)
    return {int(minor, 16): int(count) for minor, count in found}


def reaches(wanted: PriorityClass) -> None:
    """From now on, packets of the sender are counted in the wanted class and in no other of ours."""

    def counted() -> bool:
        before = packets()
        wait_for(lambda: sum(packets().values()) - sum(before.values()) >= 20, 20)
        grown = {minor for minor, count in packets().items() if count > before[minor]}
        return grown == {wanted.minor}

    wait_for(counted, 15, lambda: f"{wanted}: {packets()}")


def mounted_by_the_host(controller: str) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(controller in line.split()[-1].split(",") for line in lines if " - cgroup " in line)


def sender(mode: str, network_class: str) -> str:
    return (
        f'name = "sender-{mode}"\ncommand = ["python3", "-c", {json.dumps(SENDER)}]\n'
        f'[network]\nmode = "{mode}"\npriority_class = "{network_class}"\n[resources]\ncpus = 0.5\n'
    )


@pytest.mark.parametrize("mode", ["host", "bridge"])
def test_class_of_a_job_and_its_change(wire_site: Installation, mode: str) -> None:
    """`host` goes by a BPF program of its group, `bridge` is routed to the uplink and goes by the nftables map."""
    site = wire_site
    job = site.submit(sender(mode, "high"))
    site.until(job, "running")
    driven = site.show(job)["carriers"]
    assert driven[0] == {"bridge": "nftables", "host": "bpf"}[mode]
    if mode == "host" and site.settings["mount_net_controllers"] == "false":
        assert set(driven) <= {"bpf", *(name for name in ("net_prio", "net_cls") if mounted_by_the_host(name))}
    assert f"network high (by {', '.join(driven)})" in site.cli("show", str(job)).stdout
    reaches(PriorityClass.HIGH)

    site.cli("priority", str(job), "--network", "background")  # running
    reaches(PriorityClass.BACKGROUND)

    site.cli("pause", "--wait", str(job))
    site.cli("priority", str(job), "--network", "realtime")  # frozen
    site.cli("resume", "--wait", str(job))
    reaches(PriorityClass.REALTIME)
    site.cli("cancel", "--kill", str(job))
    site.until(job, "cancelled")


@pytest.mark.needs("cgroup1.net_prio")
def test_net_prio_alone(uplink: None, tmp_path: Path) -> None:
    """Where the kernel takes no BPF program, or had the host on v1: the pairs of net_prio are enough."""
    private_mounts.mount_missing(str(tmp_path), ("net_prio",))
    caps = hostcaps.forced_v1(hostcaps.probe(str(tmp_path)))
    assert carriers(caps, "host")[0] == "net_prio"
    only = replace(caps, controllers={"net_prio": caps.controllers["net_prio"]})
    tree = CgroupTree(only, f"jobs-e2e-np{os.getpid()}")
    tree.prepare()

    def limits(wanted: PriorityClass) -> Limits:
        return Limits(1 << 30, interface_priorities=((UPLINK, wanted.skb_priority),))

    group = tree.create("1.0.1", limits(PriorityClass.HIGH))
    join = f'echo 0 > {group.run_procs[0]}; exec "$@"'
    process = subprocess.Popen(["/bin/sh", "-c", join, "sh", sys.executable, "-c", SENDER])
    try:
        reaches(PriorityClass.HIGH)
        group.apply(limits(PriorityClass.BACKGROUND))
        reaches(PriorityClass.BACKGROUND)
    finally:
        process.kill()
        process.wait()
        anyio.run(group.remove)
        tree.remove_root()
        private_mounts.unmount(str(tmp_path))
