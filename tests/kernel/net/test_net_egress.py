"""Jobs in the host's network without net_prio: the BPF program of their group, counted by an HTB qdisc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from leaks import polled
from netlab import WORLD, Lab, counted, htb, run

from jobs.priority_class import PriorityClass
from netbridge.priority import tc_class
from runtime import hostcaps, syscalls
from runtime.cgroups.group import JobGroup
from runtime.cgroups.limits import Limits
from runtime.cgroups.net_priority import carriers
from runtime.cgroups.programs import EGRESS, attached
from runtime.cgroups.tree import CgroupTree

pytestmark = pytest.mark.needs("cgroup2")
WORLD6 = "2001:db8::1"
PACKETS = 20
NONE = "4a0b:99"
NOTHING = Limits(memory_bytes=256 << 20)

# A line on stdin: address, SO_PRIORITY (0: not set), how many. The sockets stay open from the first line on.
SENDER = """
import socket, sys
sockets = {}
for line in sys.stdin:
    to, priority, count = line.split()
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    sender = sockets.setdefault(family, socket.socket(family, socket.SOCK_DGRAM))
    if int(priority):
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, int(priority))
    for _ in range(int(count)):
        sender.sendto(b"x" * 100, (to, 9))
    print("sent", flush=True)
"""


def priority(wanted: PriorityClass) -> Limits:
    return replace(NOTHING, socket_priority=wanted.skb_priority)


class Sender:
    """A process in `run` of a group of its own, in the host's network."""

    def __init__(self, group: JobGroup) -> None:
        self.group = group
        script = f'echo 0 > {group.run_unified}/cgroup.procs; exec "$@"'
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", sys.executable, "-I", "-S", "-c", SENDER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, to: str, so_priority: int = 0, count: int = PACKETS) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{to} {so_priority} {count}\n")
        self.process.stdin.flush()

    def sent(self, to: str = WORLD, so_priority: int = 0) -> dict[str, int]:
        """The classes that its packets were counted in; those of a few packets (ARP, neighbours) are left out."""
        before = counted("up0")
        self.ask(to, so_priority)
        return self.counted_since(before)

    def counted_since(self, before: dict[str, int]) -> dict[str, int]:
        assert self.process.stdout
        assert self.process.stdout.readline() == "sent\n"
        grown: dict[str, int] = {}

        def all_counted() -> bool:
            grown.update({name: count - before[name] for name, count in counted("up0").items()})
            return sum(grown.values()) >= PACKETS

        assert polled(all_counted, 20), grown
        return {name: count for name, count in grown.items() if count >= PACKETS // 2}


@pytest.fixture
def tree(lab: Lab) -> Iterator[CgroupTree]:
    """Only the unified hierarchy, without any controller: what every host with cgroup2 can do."""
    caps = hostcaps.probe()
    made = CgroupTree(replace(caps, controllers={}, freezer="v2"), f"jt-net-{os.getpid()}")
    assert carriers(made.caps, "host") == ("bpf",)
    made.prepare()
    run("ip", "address", "add", "2001:db8::2/64", "dev", "up0", "nodad")
    lab.world.run("ip", "address", "add", f"{WORLD6}/64", "dev", "up1", "nodad")
    htb("up0")
    yield made
    made.remove_root()


@pytest.fixture
def sender(tree: CgroupTree) -> Iterator[Sender]:
    made = Sender(tree.create("1.0.1", NOTHING))
    for to in (WORLD, WORLD6):  # resolves the neighbours
        made.sent(to)
    yield made

    async def end() -> None:
        await made.group.kill()
        await made.group.remove()

    made.process.kill()
    made.process.communicate()
    anyio.run(end)


@pytest.mark.parametrize("to", [WORLD, WORLD6])
def test_every_class_counts_and_changes_at_once(sender: Sender, to: str) -> None:
    """The socket is open all the while."""
    assert sender.sent(to) == {NONE: PACKETS}  # the control: without the program
    for wanted in (*PriorityClass, PriorityClass.BACKGROUND):
        sender.group.apply(priority(wanted))
        assert sender.sent(to) == {tc_class(wanted): PACKETS}


def test_a_job_cannot_choose_for_itself(sender: Sender) -> None:
    """The control: without our program SO_PRIORITY names the class (the test is root; a job may say 0 to 6 only)."""
    assert sender.sent(so_priority=PriorityClass.REALTIME.skb_priority) == {tc_class(PriorityClass.REALTIME): PACKETS}
    sender.group.apply(priority(PriorityClass.BACKGROUND))
    for chosen in (6, PriorityClass.REALTIME.skb_priority):
        assert sender.sent(so_priority=chosen) == {tc_class(PriorityClass.BACKGROUND): PACKETS}


def test_a_frozen_job_wakes_in_its_new_class(sender: Sender) -> None:
    sender.group.apply(priority(PriorityClass.HIGH))
    anyio.run(sender.group.freezer.freeze, 10.0)
    before = counted("up0")
    sender.ask(WORLD)
    sender.group.apply(priority(PriorityClass.REALTIME))
    anyio.run(sender.group.freezer.thaw)
    assert sender.counted_since(before) == {tc_class(PriorityClass.REALTIME): PACKETS}


def test_the_class_outlives_who_set_it(sender: Sender) -> None:
    """The group keeps its program: a daemon that is killed takes nothing along."""
    code = (
        "import os, signal, sys; from runtime.cgroups.programs import EGRESS, attach; "
        "from runtime.cgroups.net_egress import program; "
        "attach(sys.argv[1], EGRESS, program(int(sys.argv[2]))); os.kill(os.getpid(), signal.SIGKILL)"
    )
    argv = [sys.executable, "-c", code, sender.group.run_unified, str(PriorityClass.HIGH.skb_priority)]
    assert subprocess.run(argv, cwd=Path(__file__).parents[3], check=False).returncode == -9
    assert sender.sent() == {tc_class(PriorityClass.HIGH): PACKETS}


def test_one_program_at_a_time_and_none_afterwards(tree: CgroupTree) -> None:
    group, seen = tree.create("2.0.1", NOTHING), []
    for wanted in (*PriorityClass, *PriorityClass):
        group.apply(priority(wanted))
        seen += attached(group.run_unified, EGRESS)
    assert len(set(seen)) == 8
    assert polled(lambda: [number for number in seen if _lives(number)] == seen[-1:], 20)
    anyio.run(group.remove)
    assert polled(lambda: not _lives(seen[-1]), 20)


def _lives(program: int) -> bool:
    try:
        os.close(syscalls.bpf_program_fd(program))
    except FileNotFoundError:
        return False
    return True
