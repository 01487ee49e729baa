"""The launcher's verbs but create and go: slots, helpers, files opened as a user, and who may speak to it."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from containerlab import BASE, DEADLINE_S, Lab, id_map

from jobs.errors import LauncherGone, StepFailed
from runtime import messages, process
from runtime.channel import Channel
from runtime.client import HelperResult, Launcher, Slot

pytestmark = pytest.mark.needs("root", "userns", "netns")


# ── slots ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def slot(lab: Lab) -> Iterator[Slot]:
    made = lab.call(lambda client: client.slot(uid_map=id_map(), gid_map=id_map(), network=True))
    yield made
    for fd in made:
        os.close(fd)


def test_a_slot_is_two_namespaces_and_a_netlink_socket_inside(slot: Slot) -> None:
    assert os.readlink(f"/proc/self/fd/{slot.userns}") != os.readlink("/proc/self/ns/user")
    assert os.readlink(f"/proc/self/fd/{slot.netns}") != os.readlink("/proc/self/ns/net")
    assert stat.S_ISSOCK(os.fstat(slot.netlink).st_mode)
    with socket.socket(fileno=os.dup(slot.netlink)) as netlink:
        assert netlink.family == socket.AF_NETLINK


def test_a_refused_map_names_step_and_errno(lab: Lab) -> None:
    with pytest.raises(StepFailed) as told:
        lab.call(lambda client: client.slot(uid_map="0 0 nonsense\n", gid_map=id_map(), network=False))
    assert told.value.step == "id-map"


def test_an_idmap_namespace_is_only_a_user_namespace(lab: Lab) -> None:
    fd = lab.call(lambda client: client.idmap_userns(f"1000 {BASE} 1\n", f"1000 {BASE} 1\n"))
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("user:")
    os.close(fd)


# ── helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def helped(lab: Lab, *argv: str, **options: object) -> HelperResult:
    return lab.call(lambda client: client.helper(argv, **options))  # type: ignore[arg-type]


def test_a_helper_answers_with_status_and_output(lab: Lab) -> None:
    assert helped(lab, "sh", "-c", "echo out; echo err >&2; id -u; exit 3") == (3, b"out\n0\n", b"err\n")


def test_a_helper_gets_its_input_and_descriptors_as_3_4_and_5(lab: Lab, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("three", "four", "five")]
    fds = [os.open(path, os.O_CREAT | os.O_WRONLY) for path in paths]
    script = "cat >&4; echo 3 >&3; echo 5 >&5; for n in $(seq 0 40); do [ -e /proc/$$/fd/$n ] && echo $n; done"
    done = helped(lab, "sh", "-c", script, fds=fds, stdin=b"given\n")
    for fd in fds:
        os.close(fd)
    assert [path.read_text() for path in paths] == ["3\n", "given\n", "5\n"]
    assert done.stdout.split() == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_helper_has_a_clean_environment_or_the_one_given(lab: Lab) -> None:
    os.environ["LAB_SECRET"] = "x"
    assert b"LAB_SECRET" not in helped(lab, "env").stdout
    assert helped(lab, "/usr/bin/env", env={"A": "b"}).stdout == b"A=b\n"
    del os.environ["LAB_SECRET"]


def test_the_output_of_a_helper_is_bounded(lab: Lab) -> None:
    assert len(helped(lab, "head", "-c", str(5 << 20), "/dev/zero").stdout) == 1 << 20


def test_a_missing_helper_is_a_failed_step(lab: Lab) -> None:
    with pytest.raises(StepFailed) as told:
        helped(lab, "no-such-program")
    assert (told.value.step, told.value.path) == ("helper", "no-such-program")


def test_a_helper_that_takes_too_long_is_ended_with_its_children(lab: Lab, tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; sync {tmp_path}/pid; wait"
    done = helped(lab, "sh", "-c", script, timeout_s=0.3)
    assert done.status == 124
    assert b"sh" in done.stderr
    assert ends(int((tmp_path / "pid").read_text()), within_s=60)


def ends(pid: int, within_s: float) -> bool:
    """SIGKILL is sent and not awaited, so the process may die a moment later. True at once when it has gone before."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], within_s)[0])
    finally:
        os.close(fd)


def test_a_helper_killed_by_a_signal(lab: Lab) -> None:
    assert helped(lab, "sh", "-c", "kill -9 $$").status == 137


def test_helpers_run_side_by_side(lab: Lab, tmp_path: Path) -> None:
    """Each waits for the other: one after the other they would never end."""

    async def body(client: Launcher) -> list[int]:
        statuses = []

        async def one(mine: str, others: str) -> None:
            script = f"touch {tmp_path}/{mine}; while [ ! -e {tmp_path}/{others} ]; do sleep 0.01; done"
            statuses.append((await client.helper(["sh", "-c", script], timeout_s=20)).status)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, "a", "b")
            tasks.start_soon(one, "b", "a")
        return statuses

    assert lab.call(body) == [0, 0]


# ── files opened as a user ──────────────────────────────────────────────────────────────────────────────────────────


def opened(lab: Lab, path: Path | str, uid: int = 1000, groups: tuple[int, ...] = (), flags: int = os.O_RDONLY) -> int:
    return lab.call(lambda client: client.open_as(uid, uid, groups, str(path), flags))


def test_a_file_is_opened_with_the_users_rights(lab: Lab) -> None:
    folder = lab.folder / "of-users"
    folder.mkdir()
    file = folder / "file"
    file.write_text("x")
    file.chmod(0o640)
    os.chown(file, 1000, 3000)
    os.close(opened(lab, file))
    os.close(opened(lab, file, uid=1001, groups=(3000,)))
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_NONBLOCK):
        with pytest.raises(PermissionError) as told:
            opened(lab, file, uid=1001, flags=flags)
        assert told.value.filename == str(file)


def test_a_folder_behind_a_closed_door_is_not_opened_even_by_path_only(lab: Lab) -> None:
    folder = lab.folder / "closed"
    (folder / "inside").mkdir(parents=True)
    folder.chmod(0o700)
    with pytest.raises(PermissionError):
        opened(lab, folder / "inside", flags=os.O_PATH)
    os.close(opened(lab, folder / "inside", uid=0, flags=os.O_PATH))


def test_what_is_not_there_is_told_with_its_path(lab: Lab) -> None:
    with pytest.raises(FileNotFoundError) as told:
        opened(lab, "/no/such/file")
    assert told.value.filename == "/no/such/file"


# ── who may speak ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sockets_have_the_promised_modes(lab: Lab) -> None:
    lab.call(lambda client: client.helper(["true"]))
    assert stat.S_IMODE((lab.run_dir / "launcher.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((lab.run_dir / "exec.sock").stat().st_mode) == 0o666
    assert stat.S_IMODE((lab.state_dir / "spool").stat().st_mode) == 0o700


def test_hello_closes_older_connections(lab: Lab) -> None:
    async def body(client: Launcher) -> bool:
        newer = await lab.connect()
        with anyio.fail_after(DEADLINE_S):
            await client.lost.wait()
        newer.close()
        with pytest.raises(LauncherGone):
            await client.helper(["true"])
        return True

    assert lab.call(body)


def test_an_older_epoch_is_refused(lab: Lab) -> None:
    async def body(client: Launcher) -> None:
        with pytest.raises(LauncherGone, match="epoch"):
            await Launcher.connect(f"{lab.run_dir}/launcher.sock", -5)
        assert (await client.helper(["true"])).status == 0  # the newer one goes on being served

    lab.call(body)


def test_a_dead_daemons_request_is_never_run(lab: Lab, tmp_path: Path) -> None:
    """It stops the launcher, so that request and death are both there before the launcher looks."""
    lab.call(lambda client: client.helper(["true"]))
    assert lab.process is not None
    marks = [tmp_path / name for name in ("dead", "living")]
    for mark, dies in zip(marks, (True, False), strict=True):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(f"{lab.run_dir}/launcher.sock")
        channel = Channel(sock)
        channel.send(messages.Hello(1_000_000))
        assert isinstance(channel.receive()[0], messages.Welcome)
        order = process.memfd_of("order", f'[["touch", "{mark}"], {{"PATH": "/usr/bin:/bin"}}, -1, 10]'.encode())
        lab.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, lab.process.pid, os.WSTOPPED)  # a busy machine stops it later than the call returns
        channel.send(messages.Helper(1), [order])
        os.close(order)
        if dies:
            channel.close()
        lab.process.send_signal(signal.SIGCONT)
        if not dies:  # the control: the very same request of a living daemon is run
            assert isinstance(channel.receive()[0], messages.Answer)
            channel.close()
    lab._epoch = 1_000_000
    assert [mark.exists() for mark in marks] == [False, True]


def test_nonsense_ends_the_connection_and_nothing_else(lab: Lab) -> None:
    for nonsense in (b"{}", b"\xff", b'["Go", "x", 1]', b'["Create", 1, "../../etc"]', b"[" * 60_000, b'["Done", {}]'):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(10)
        sock.connect(f"{lab.run_dir}/launcher.sock")
        sock.send(nonsense)
        answer = sock.recv(4096)
        assert answer == b"" or answer.startswith(b'["Refusal"')
        sock.close()
    assert helped(lab, "true").status == 0


def test_only_root_may_speak_to_the_launcher(lab: Lab) -> None:
    """The mode of the socket refuses already; with it opened wide, SO_PEERCRED does."""
    helped(lab, "true")
    path = lab.run_dir / "launcher.sock"
    path.chmod(0o666)
    code = (
        "import socket,sys,os; os.setuid(1000); s=socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        "s.settimeout(10);"
        "s.connect(sys.argv[1]); s.send(b'[\"Hello\", 2000000]'); sys.exit(s.recv(100) != b'')"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, str(path)], capture_output=True, text=True, check=False
        )
    finally:
        path.chmod(0o600)
    assert done.returncode == 0 or "Broken pipe" in done.stderr or "reset" in done.stderr, done.stderr
