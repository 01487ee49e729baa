"""What every freezer keeps, v1's and v2's: one suite, real groups, real processes. Needs root."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest
from patience import PATIENCE_S

from runtime import hostcaps
from runtime.cgroups.devices import rule_for
from runtime.cgroups.files import number, read, table
from runtime.cgroups.freezer import FreezeTimeout
from runtime.cgroups.group import JobGroup
from runtime.cgroups.kill import StillAlive, kill
from runtime.cgroups.limits import Limits
from runtime.cgroups.tree import CgroupTree

GENEROUS = Limits(memory_bytes=1 << 30)
DEADLINE_S = 30.0  # generous: this machine may be busy
PROCESSES = 200
ROUNDS = 10_000  # of sha256 per process: together some seconds, far more than what runs between the pauses

# 200 processes: half compute at once, half sleep in read(2) until the others are through, then compute too.
CROWD = """
import hashlib, os, sys
count, rounds = int(sys.argv[1]), int(sys.argv[2])
hold, release = os.pipe()
sums_in, sums_out = os.pipe()
for n in range(count - 1):
    if os.fork() == 0:
        os.close(release)
        if n % 2:
            os.read(hold, 1)
        digest = bytes(str(n), "ascii")
        for _ in range(rounds):
            digest = hashlib.sha256(digest).digest()
        os.write(sums_out, digest)
        os._exit(0)
os.close(hold)
os.close(sums_out)
print("ready", flush=True)
got = [os.read(sums_in, 32) for _ in range(count // 2)]
os.close(release)
while part := os.read(sums_in, 32):
    got.append(part)
print(len(got), hashlib.sha256(b"".join(sorted(got))).hexdigest(), flush=True)
"""


def expected_sum() -> str:
    got = []
    for n in range(PROCESSES - 1):
        digest = bytes(str(n), "ascii")
        for _ in range(ROUNDS):
            digest = hashlib.sha256(digest).digest()
        got.append(digest)
    return f"{PROCESSES - 1} {hashlib.sha256(b''.join(sorted(got))).hexdigest()}\n"


class Subject:
    """A group with the freezer under test and the processes in it."""

    def __init__(self, group: JobGroup) -> None:
        self.group = group
        self.freezer = group.freezer
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Returns when the process is in its groups."""
        joins = [*self.group.run_procs, *([f"{self.group.run_unified}/cgroup.procs"] if self.group.run_unified else [])]
        joined, child_end = os.pipe()
        script = f'for f in $JOINS; do echo 0 > "$f" || exit 99; done; exec {child_end}>&-; exec "$@"'
        process = subprocess.Popen(
            ["/bin/bash", "-c", script, "bash", *argv],
            env={**os.environ, "JOINS": " ".join(joins)},
            pass_fds=(child_end,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        os.close(child_end)
        os.read(joined, 1)
        os.close(joined)
        return process

    def python(self, code: str, *args: str) -> subprocess.Popen[str]:
        """Returns when the program has printed its first line."""
        process = self.start(sys.executable, "-I", "-S", "-c", code, *args)
        assert process.stdout is not None and process.stdout.readline()
        return process

    def cpu_ns(self) -> int:
        """The kernel's counter of CPU time of the group."""
        accounts = self.group.places.get("cpuacct")
        if accounts is not None and accounts.version == 1:
            return number(f"{accounts.run}/cpuacct.usage")
        return table(f"{self.group.run_unified}/cpu.stat")["usage_usec"] * 1000


NEEDED = {"v1": "cgroup1.freezer", "v2": "cgroup2"}


@pytest.fixture(params=["v1", "v2"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if os.geteuid() != 0:
        pytest.skip("needs root: not root")
    caps = hostcaps.probe()
    if request.param == "v1":
        caps = hostcaps.forced_v1(caps)
    if caps.freezer != request.param:
        pytest.skip(f"needs {NEEDED[request.param]}: not here")
    tree = CgroupTree(caps, f"jt-freezer-{os.getpid()}")
    tree.prepare()
    subject = Subject(tree.create("1.0.1", GENEROUS))
    yield subject

    async def end() -> None:
        await subject.group.kill()
        for process in subject.started:
            process.wait()
            if process.stdout:
                process.stdout.close()
        await subject.group.remove()

    anyio.run(end)
    tree.remove_root()


def let_others_run(cpu_s: float = 0.03) -> None:
    """Returns when this process itself got so much CPU time: whoever was runnable has run meanwhile."""
    until = time.thread_time() + cpu_s
    while time.thread_time() < until:
        pass


def until_it_ran(subject: Subject, cpu_ns: float) -> None:
    """Returns when the group got so much CPU time more."""
    enough, until = subject.cpu_ns() + cpu_ns, time.monotonic() + PATIENCE_S
    while subject.cpu_ns() < enough:
        assert time.monotonic() < until, "nothing runs"
        let_others_run(0.001)


def settle(subject: Subject) -> None:
    """Returns when no process of the group is runnable.

    On v2 a task counts as frozen a few instructions before it leaves its CPU; on a busy machine it may be preempted
    just there, and run them later. They are the kernel's: the program itself does not go on.
    """
    for pid in subject.group.pids():
        wait_for_state(pid, "SDTZ")


def test_version(subject):
    assert subject.freezer.version in ("v1", "v2")
    assert (subject.freezer.version == "v2") == bool(subject.group.run_unified)


def test_crowd_paused_five_times_computes_the_same(subject):
    crowd = subject.python(CROWD, str(PROCESSES), str(ROUNDS))
    dice = random.Random(os.urandom(8))
    counters = []

    async def pause_five_times() -> None:
        for _ in range(5):
            until_it_ran(subject, dice.uniform(1e6, 30e6))
            assert await subject.freezer.freeze(DEADLINE_S) > 0
            assert subject.freezer.is_frozen() and subject.freezer.is_asked()
            settle(subject)
            before = subject.cpu_ns()
            let_others_run()
            counters.append((before, subject.cpu_ns()))
            assert await subject.freezer.thaw() > 0
            assert not subject.freezer.is_frozen() and not subject.freezer.is_asked()

    anyio.run(pause_five_times)
    assert [after - before for before, after in counters] == [0] * 5
    assert crowd.stdout.readline() == expected_sum()
    assert crowd.wait() == 0


def test_freezing_a_forking_program(subject):
    """Each generation forks the next one and exits; a frozen group makes no more of them."""
    relay = "import os\nprint(flush=True)\nwhile True:\n  if os.fork(): os._exit(0)"
    subject.python(relay)

    async def freeze() -> list[list[int]]:
        await subject.freezer.freeze(DEADLINE_S)
        first = subject.group.pids()
        let_others_run()
        return [first, subject.group.pids()]

    first, second = anyio.run(freeze)
    assert first == second and len(first) >= 1
    anyio.run(subject.freezer.thaw)


def test_empty_group(subject):
    async def both() -> None:
        await subject.freezer.freeze(DEADLINE_S)
        assert subject.freezer.is_frozen()
        await subject.freezer.thaw()
        assert not subject.freezer.is_frozen()

    anyio.run(both)


def test_repeated_requests_are_fine(subject):
    sleeper = subject.start("/bin/sleep", "100")

    async def twice() -> None:
        await subject.freezer.thaw()
        await subject.freezer.freeze(DEADLINE_S)
        await subject.freezer.freeze(DEADLINE_S)
        assert subject.freezer.is_frozen()
        await subject.freezer.thaw()
        await subject.freezer.thaw()

    anyio.run(twice)
    assert sleeper.poll() is None


@pytest.fixture
def stuck(subject: Subject, tmp_path) -> Iterator[Subject]:
    """A process in uninterruptible sleep: it waits for a read that its own disk rate lets through in minutes only."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    loop = subprocess.run(
        ["losetup", "--find", "--show", disk], check=True, capture_output=True, text=True
    ).stdout.strip()
    number = os.stat(loop).st_rdev
    slow = replace(
        GENEROUS,
        devices=(*GENEROUS.devices, rule_for(loop)),
        io_devices=((os.major(number), os.minor(number)),),
        io_read_bytes_s=4096,
    )
    subject.group.apply(slow)
    process = subject.start("/bin/dd", f"if={loop}", "of=/dev/null", "bs=1M", "count=1", "iflag=direct", "status=none")
    wait_for_state(process.pid, "D")
    yield subject
    subject.group.apply(GENEROUS)
    assert process.wait(timeout=30) in (0, -9)
    subprocess.run(["losetup", "--detach", loop], check=True)


def wait_for_state(pid: int, state: str) -> None:
    until = time.monotonic() + 10
    while read(f"/proc/{pid}/stat").rpartition(") ")[2][0] not in state:
        assert time.monotonic() < until, read(f"/proc/{pid}/stat")
        let_others_run(0.001)


def test_freeze_that_misses_its_deadline_is_undone(stuck):
    with pytest.raises(FreezeTimeout) as caught:
        anyio.run(stuck.freezer.freeze, 0.1)
    assert caught.value.undone and caught.value.took_s >= 0.1
    assert not stuck.freezer.is_asked() and not stuck.freezer.is_frozen()
    runs_again(stuck)


def test_cancelled_freeze_is_undone(stuck):
    async def cancel() -> bool:
        with anyio.move_on_after(0.05) as scope:
            await stuck.freezer.freeze(DEADLINE_S)
        return scope.cancelled_caught

    assert anyio.run(cancel)
    assert not stuck.freezer.is_asked()
    runs_again(stuck)


def runs_again(subject: Subject) -> None:
    before = subject.cpu_ns()
    assert subject.start("/bin/true").wait() == 0
    assert subject.cpu_ns() > before


def test_the_loop_is_not_blocked_meanwhile(stuck):
    """Other tasks go on while a freeze waits."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            with pytest.raises(FreezeTimeout):
                await stuck.freezer.freeze(0.1)
            tasks.cancel_scope.cancel()

    anyio.run(both)
    assert turns > 10


def test_kill_names_who_survives(stuck):
    """Uninterruptible sleep outlives SIGKILL; it dies as soon as its read is through."""
    base = stuck.group.run_unified or stuck.group.places["freezer"].run
    with pytest.raises(StillAlive) as caught:
        anyio.run(kill, base, 2 if stuck.group.run_unified else 1, 0.1)
    assert caught.value.pids == [stuck.started[-1].pid]
    assert not stuck.freezer.is_asked(), "thawed on the way out, too"


def test_kill_takes_the_frozen(subject):
    crowd = [subject.start("/bin/sleep", "100") for _ in range(5)]

    async def freeze_and_kill() -> None:
        await subject.freezer.freeze(DEADLINE_S)
        await subject.group.kill()

    anyio.run(freeze_and_kill)
    assert not subject.group.populated()
    assert [process.wait() for process in crowd] == [-9] * 5


def test_kill_takes_a_program_that_forks_away(subject):
    """Each generation leaves two: a fork bomb within its pids limit."""
    subject.group.apply(replace(GENEROUS, pids=50))
    bomb = "import os\nprint(flush=True)\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    subject.python(bomb)
    anyio.run(subject.group.kill)
    assert subject.group.pids() == [] and not subject.group.populated()


def test_kill_takes_subgroups_frozen_by_themselves(subject):
    """A job that could make a group below its own and freeze it does not escape."""
    base = subject.group.run_unified or subject.group.places["freezer"].run
    os.mkdir(f"{base}/below")
    inner = type(subject.freezer)(f"{base}/below")
    process = subject.start("/bin/sh", "-c", f"echo 0 > {base}/below/cgroup.procs; echo in; exec sleep 100")
    process.stdout.readline()

    async def freeze_and_kill() -> None:
        await inner.freeze(DEADLINE_S)
        assert not subject.freezer.is_asked(), "a subgroup's request is not the group's"
        await subject.group.kill()

    anyio.run(freeze_and_kill)
    assert process.wait() == -9


def test_frozen_ancestor(subject):
    """It stops the group, yet the group itself was not asked; and a thaw of the group is not a thaw of the ancestor."""
    base = subject.group.run_unified or subject.group.places["freezer"].run
    above = type(subject.freezer)(os.path.dirname(base))
    subject.python("print(flush=True)\nwhile True: pass")

    async def nested() -> None:
        await above.freeze(DEADLINE_S)
        assert not subject.freezer.is_frozen() and not subject.freezer.is_asked()
        await subject.freezer.freeze(DEADLINE_S)
        assert subject.freezer.is_frozen()
        await subject.freezer.thaw()
        assert not subject.freezer.is_asked()
        settle(subject)
        before = subject.cpu_ns()
        let_others_run()
        assert subject.cpu_ns() == before
        await above.thaw()
        until = time.monotonic() + PATIENCE_S
        while subject.cpu_ns() == before:
            assert time.monotonic() < until
            let_others_run()

    anyio.run(nested)


def test_a_fatal_signal_while_frozen(subject):
    """v2: a signal whose action is to die takes effect at once, like SIGKILL. v1: at the thaw."""
    sleeper = subject.start("/bin/sleep", "100")

    async def signalled() -> int | None:
        await subject.freezer.freeze(DEADLINE_S)
        sleeper.terminate()
        let_others_run()
        status = sleeper.poll()
        await subject.freezer.thaw()
        return status

    assert anyio.run(signalled) == {"v1": None, "v2": -15}[subject.freezer.version]
    assert sleeper.wait() == -15
