"""Create and go: exactly once, told by step and path when it fails, and what is left on record whatever dies."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import anyio
import pytest
from containerlab import BASE, DEADLINE_S, Box, Finished, Lab

from jobs.errors import StepFailed
from jobs.spec import JobSpec
from runtime import exitrecord
from runtime.client import Launcher
from runtime.plan import BoundMount, ImageRoot

pytestmark = pytest.mark.needs("root", "userns", "netns", "timens", "overlay", "tool.catatonit")
SLEEPER = JobSpec(name="lab", command=("sh", "-c", "echo up; exec sleep 600"))


def failing(lab: Lab, *command: str, **changes: object) -> StepFailed:
    with pytest.raises(StepFailed) as told:
        lab.run(*command, **changes)  # type: ignore[arg-type]
    spool = lab.state_dir / "spool" / f"{lab._number}.0.1"
    record = exitrecord.read(f"{spool}/exit")
    assert record is not None
    assert (record.step, record.errno, record.path) == (told.value.step, told.value.errno, told.value.path)
    return told.value


# ── failures by name ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_program(lab: Lab) -> None:
    error = failing(lab, "no-such-program")
    assert (error.step, error.errno, error.path) == ("exec", errno.ENOENT, "no-such-program")
    record = exitrecord.read(f"{lab.state_dir}/spool/{lab._number}.0.1/exit")
    assert record is not None
    assert record.status == 127


def test_a_program_that_may_not_be_executed(lab: Lab) -> None:
    error = failing(lab, "/etc/passwd")
    assert (error.step, error.errno, error.path) == ("exec", errno.EACCES, "/etc/passwd")


def test_a_missing_working_folder(lab: Lab) -> None:
    error = failing(lab, "true", workdir="/no/such/folder")
    assert (error.step, error.errno, error.path) == ("workdir", errno.ENOENT, "/no/such/folder")


def test_a_working_folder_that_the_user_may_not_enter(lab: Lab) -> None:
    assert failing(lab, "true", workdir="/root").errno == errno.EACCES
    assert lab.run("pwd", workdir="/root", run_as="root").lines == ["/root"]


@pytest.mark.parametrize("number", [3, 4, 7, 15, 30])
def test_no_descriptor_is_a_working_folder(lab: Lab, number: int) -> None:
    """CVE-2024-21626. The control: the folder that the descriptor's link would name can be entered."""
    assert failing(lab, "true", workdir=f"/proc/self/fd/{number}").step == "workdir"
    assert lab.run("pwd", workdir="/proc/self").record.status == 0


def test_an_overlay_that_cannot_be_made(lab: Lab) -> None:
    error = failing(lab, "true", image=ImageRoot("layers", ("/no/such/layer",)))
    assert (error.step, error.errno, error.path) == ("overlay", errno.ENOENT, "/no/such/layer")


def test_a_mount_point_below_a_file(lab: Lab) -> None:
    fd = os.open("/usr", os.O_PATH)
    error = failing(lab, "true", extra=(fd,), mounts=(BoundMount(2, "/etc/passwd/x"),))
    os.close(fd)
    assert (error.step, error.errno) == ("mount-point", errno.ENOTDIR)


def test_a_filesystem_that_cannot_be_idmapped(lab: Lab) -> None:
    """proc is one on every kernel."""

    async def maps(client: Launcher) -> int:
        return await client.idmap_userns(f"1000 {BASE} 1\n", f"1000 {BASE} 1\n")

    idmap, fd = lab.call(maps), os.open("/proc", os.O_PATH)
    error = failing(lab, "true", extra=(fd, idmap), mounts=(BoundMount(2, "/data", True, 3),))
    os.close(fd)
    os.close(idmap)
    assert (error.step, error.errno, error.path) == ("bind", errno.EINVAL, "/proc")


def test_a_device_that_is_not_there(lab: Lab) -> None:
    from jobs.spec import Resources

    error = failing(lab, "true", resources=Resources(devices=("/dev/no-such-device",)))
    assert (error.step, error.errno, error.path) == ("bind", errno.ENOENT, "/dev/no-such-device")


def test_a_group_that_is_not_there(lab: Lab) -> None:
    error = failing(lab, "true", run_procs=("/sys/fs/cgroup/no-such-group/cgroup.procs",))
    assert (error.step, error.path) == ("cgroup", "/sys/fs/cgroup/no-such-group/cgroup.procs")


# ── exactly once ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_asked_twice_it_starts_once(lab: Lab) -> None:
    marks = lab.folder / "marks-twice"
    marks.mkdir(mode=0o777)
    marks.chmod(0o777)
    fd = os.open(marks, os.O_PATH)
    spec = JobSpec(name="lab", command=("sh", "-c", "echo ran >> /marks/ran; echo up; exec sleep 600"))

    async def body(client: Launcher) -> None:
        async with lab.box(client, spec, (fd,), mounts=(BoundMount(2, "/marks", False),)) as box:
            answers = []

            async def ask() -> None:
                answers.append(await box.create())

            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)
            assert len({(answer.monitor_pid, answer.init_pid) for answer in answers}) == 1
            box.created = answers.pop()
            for answer in answers:
                os.close(answer.monitor_pidfd)
            for _ in range(3):
                await box.go()
            again = await client.create(box.id, b"never read", box.fds)
            assert again.init_pid == box.init_pid
            os.close(again.monitor_pidfd)
            await box.until_output("up")
            os.kill(box.init_pid, signal.SIGKILL)
            await box.ended()
            with pytest.raises(StepFailed) as told:
                await until_forgotten(client, box)
            assert (told.value.step, told.value.errno) == ("started", errno.EEXIST)

    lab.call(body)
    os.close(fd)
    assert (marks / "ran").read_text() == "ran\n"


async def until_forgotten(client: Launcher, box: Box) -> None:
    """Between the monitor's exit and its reaping the launcher still gives the first result."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            os.close((await client.create(box.id, b"never read", box.fds)).monitor_pidfd)


def test_abandoned_it_never_runs(lab: Lab) -> None:
    async def body(client: Launcher) -> Finished:
        async with lab.box(client, SLEEPER) as box:
            await box.create()
            await client.abandon(box.id)
            done = await box.ended()
            await client.abandon(box.id)  # safe to repeat
            return done

    done = lab.call(body)
    assert (done.record.step, done.stdout) == ("abandoned", "")


def test_what_runs_cannot_be_abandoned(lab: Lab) -> None:
    async def body(client: Launcher) -> None:
        async with lab.box(client, SLEEPER) as box:
            await box.create()
            await box.go()
            with pytest.raises(StepFailed) as told:
                await client.abandon(box.id)
            assert told.value.errno == errno.EBUSY

    lab.call(body)


def test_going_without_being_created(lab: Lab) -> None:
    with pytest.raises(StepFailed) as told:
        lab.call(lambda client: client.go("999.0.1"))
    assert told.value.errno == errno.ESRCH


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "x\n", "٣.0.1"])
def test_an_id_that_is_no_plain_name(lab: Lab, name: str) -> None:
    with pytest.raises(StepFailed) as told:
        lab.call(lambda client: client.create(name, b"", ()))
    assert told.value.errno == errno.EINVAL


# ── what is on record, whatever dies ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 200", 200), ("kill -TERM $$", 143)])
def test_the_status_of_the_program_is_the_record(lab: Lab, script: str, status: int) -> None:
    done = lab.run("sh", "-c", f"echo out; echo err >&2; {script}")
    assert (done.record.status, done.stdout, done.stderr) == (status, "out\n", "err\n")
    assert (done.record.stdout_bytes, done.record.stderr_bytes, done.record.step) == (4, 4, "")
    assert not done.record.signalled


def test_pid_1_killed(lab: Lab) -> None:
    async def body(client: Launcher) -> Finished:
        async with lab.box(client, SLEEPER) as box:
            await box.create()
            await box.go()
            await box.until_output("up")
            os.kill(box.init_pid, signal.SIGKILL)
            return await box.ended()

    done = lab.call(body)
    assert (done.record.status, done.record.signalled, done.stdout) == (137, True, "up\n")


def test_the_launcher_dies_while_it_runs(own_lab: Lab) -> None:
    lab = own_lab
    lab.start()
    gate = lab.folder / "gate"
    gate.mkdir()
    fd = os.open(gate, os.O_PATH)
    spec = JobSpec(
        name="lab", command=("sh", "-c", "echo up; while [ ! -e /gate/x ]; do sleep 0.02; done; echo end; exit 5")
    )

    async def body(client: Launcher) -> Finished:
        async with lab.box(client, spec, (fd,), mounts=(BoundMount(2, "/gate"),)) as box:
            await box.create()
            await box.go()
            await box.until_output("up")
            lab.kill()
            marker = exitrecord.read_marker(f"{box.spool}/started")
            assert marker is not None
            assert (marker.init_pid, marker.running) == (box.init_pid, True)
            monitor = exitrecord.open_monitor(marker)
            assert monitor is not None
            lab.start()
            newer = await lab.connect()
            assert newer.inventory == ()  # an orphan is nobody's child: marker and record tell of it
            with pytest.raises(StepFailed) as told:
                await newer.create(box.id, b"", ())
            assert told.value.errno == errno.EEXIST
            newer.close()
            (gate / "x").touch()
            with anyio.fail_after(DEADLINE_S):
                await anyio.wait_readable(monitor)
            os.close(monitor)
            return box.finished()

    done = lab.call(body)
    os.close(fd)
    assert (done.record.status, done.stdout) == (5, "up\nend\n")


def test_spare_monitors_end_with_the_launcher(own_lab: Lab) -> None:
    lab = own_lab
    lab.start()
    assert lab.process is not None
    pid = lab.process.pid

    def descendants(parent: int) -> list[int]:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [found for child in map(int, children) for found in (child, *descendants(child))]

    async def body(client: Launcher) -> list[int]:
        with anyio.fail_after(DEADLINE_S):
            while len(descendants(pid)) < 5:  # noqa: ASYNC110 - warmth, two spares and their jobs:enter
                await anyio.sleep(0.01)
        pidfds = [os.pidfd_open(found) for found in descendants(pid)]
        lab.kill()
        for pidfd in pidfds:
            with anyio.fail_after(DEADLINE_S):
                await anyio.wait_readable(pidfd)
            os.close(pidfd)
        return pidfds

    assert len(lab.call(body)) == 5


def test_the_launcher_dies_before_go(own_lab: Lab) -> None:
    lab = own_lab
    lab.start()

    async def body(client: Launcher) -> Finished:
        async with lab.box(client, SLEEPER) as box:
            await box.create()
            lab.kill()
            done = await box.ended()
            assert not Path(f"/proc/{box.init_pid}").exists()
            return done

    done = lab.call(body)
    assert (done.record.step, done.stdout) == ("abandoned", "")


def test_a_monitor_killed_before_go_takes_the_container_along(lab: Lab) -> None:
    async def body(client: Launcher) -> None:
        async with lab.box(client, SLEEPER) as box:
            created = await box.create()
            init = os.pidfd_open(box.init_pid)
            os.kill(created.monitor_pid, signal.SIGKILL)
            with anyio.fail_after(DEADLINE_S):
                await anyio.wait_readable(init)
            os.close(init)
            with pytest.raises(StepFailed):
                await client.go(box.id)
            assert exitrecord.read(f"{box.spool}/exit") is None  # lost, and said so by its absence

    lab.call(body)


def test_the_inventory_is_what_lives(lab: Lab) -> None:
    async def body(client: Launcher) -> None:
        async with lab.box(client, SLEEPER) as box:
            await box.create()
            newer = await lab.connect()
            assert box.id in newer.inventory
            await newer.go(box.id)
            newer.close()

    lab.call(body)


def test_a_reused_pid_is_not_taken_for_the_monitor() -> None:
    own = exitrecord.Marker(os.getpid(), exitrecord.start_ticks(os.getpid()), exitrecord.boot_id())
    pidfd = exitrecord.open_monitor(own)
    assert pidfd is not None
    os.close(pidfd)
    assert exitrecord.open_monitor(own._replace(monitor_start_ticks=own.monitor_start_ticks + 1)) is None
    assert exitrecord.open_monitor(own._replace(boot_id="another boot")) is None


# ── output ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_behind_the_limit_a_log_is_a_hole_and_offsets_stay(lab: Lab) -> None:
    limit, size = 1 << 20, 12 << 20
    done = lab.run(
        "sh", "-c", f"head -c {size - 5} /dev/zero | tr '\\0' x; echo; echo end", log_limit_bytes=limit
    )  # fmt: skip
    log = lab.state_dir / "spool" / f"{lab._number}.0.1" / "stdout"
    assert done.record.stdout_bytes == log.stat().st_size == size
    assert log.stat().st_blocks * 512 <= limit * 2
    with log.open("rb") as file:
        assert file.read(4096) == bytes(4096)
        file.seek(-limit, os.SEEK_END)
        assert set(file.read()) == set(b"x\nend")


def test_a_full_disk_drops_output_and_counts_it(lab: Lab) -> None:
    """The spool folder is a tmpfs of 256 KiB here; the job says 4 MiB and is never blocked."""
    from runtime import syscalls

    async def body(client: Launcher) -> Finished:
        spec = JobSpec(name="lab", command=("sh", "-c", "head -c 4194304 /dev/zero; exit 3"))
        async with lab.box(client, spec) as box:
            syscalls.mount("lab", str(box.spool), "tmpfs", 0, "size=256k")
            try:
                await box.create()
                await box.go()
                return await box.ended()
            finally:
                syscalls.umount2(str(box.spool), syscalls.MNT_DETACH)

    record = lab.call(body).record
    assert record.status == 3
    assert record.dropped_bytes > 0
    assert record.stdout_bytes + record.dropped_bytes == 4 << 20


def test_a_descriptor_passed_outside_does_not_keep_the_monitor(lab: Lab) -> None:
    """The test holds the job's stdout open beyond its death."""

    async def body(client: Launcher) -> Finished:
        async with lab.box(client, SLEEPER) as box:
            await box.create()
            await box.go()
            await box.until_output("up")
            held = os.open(f"/proc/{box.init_pid}/fd/1", os.O_WRONLY)
            os.kill(box.init_pid, signal.SIGKILL)
            done = await box.ended()
            os.close(held)
            return done

    assert lab.call(body).record.status == 137


# ── the monitor ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_monitor_is_small_and_holds_nothing_of_the_launchers(lab: Lab) -> None:
    async def body(client: Launcher) -> tuple[int, list[str], str]:
        async with lab.box(client, SLEEPER) as box:
            created = await box.create()
            await box.go()
            await box.until_output("up")
            proc = Path(f"/proc/{created.monitor_pid}")
            fds = sorted(os.readlink(f"{proc}/fd/{number}").split(":")[0] for number in os.listdir(f"{proc}/fd"))
            rollup = (proc / "smaps_rollup").read_text()
            dirty = int(rollup.split("Private_Dirty:")[1].split()[0])
            return dirty, fds, (proc / "comm").read_text().strip()

    dirty_kib, fds, name = lab.call(body)
    spool = [
        str(lab.state_dir / "spool" / f"{lab._number}.0.1" / file) for file in ("exit", "started", "stderr", "stdout")
    ]
    assert fds == sorted([*spool, "/dev/null", "/dev/null", "/dev/null", "anon_inode", "pipe", "pipe"])
    assert dirty_kib < 4096
    assert name == "jobs:monitor"


def test_a_monitor_ignores_a_terminals_signals(lab: Lab) -> None:
    async def body(client: Launcher) -> Finished:
        async with lab.box(client, SLEEPER) as box:
            created = await box.create()
            await box.go()
            for number in (signal.SIGHUP, signal.SIGINT):
                os.kill(created.monitor_pid, number)
            os.kill(box.init_pid, signal.SIGKILL)
            return await box.ended()

    assert lab.call(body).record.status == 137


def test_how_a_job_ends_after_its_monitor_got_sigterm_is_not_its_own_doing(lab: Lab) -> None:
    """All processes of the host, or of jobs-cgroup.service, are told to end: such a job counts as lost."""

    async def body(client: Launcher) -> tuple[exitrecord.ExitRecord | None, exitrecord.Marker | None, str]:
        async with lab.box(client, SLEEPER) as box:
            created = await box.create()
            await box.go()
            await box.until_output("up")
            os.kill(created.monitor_pid, signal.SIGTERM)
            os.kill(box.init_pid, signal.SIGTERM)
            with anyio.fail_after(DEADLINE_S):
                await anyio.wait_readable(created.monitor_pidfd)
            spool = box.spool
            return (
                exitrecord.read(f"{spool}/exit"),
                exitrecord.read_marker(f"{spool}/started"),
                (spool / "stdout").read_text(),
            )

    record, marker, printed = lab.call(body)
    assert record is None
    assert marker is not None
    assert (marker.running, marker.stopped, marker.init_pid > 0) == (True, True, True)
    assert printed == "up\n"
