"""`exec`: a ticket for one user, once; inside, the same powerlessness as the job's own program."""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from containerlab import Box, Lab

from jobs.spec import JobSpec
from runtime.client import Launcher

pytestmark = pytest.mark.needs("root", "userns", "netns", "timens", "overlay", "tool.catatonit")
SLEEPER = JobSpec(name="lab", command=("sh", "-c", "echo up; exec sleep 600"), env=(("FROM_SPEC", "1"),))
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def receive(connection: socket.socket) -> tuple[list[Any], list[int]]:
    data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
    fds = array.array("i")
    for _, _, payload in ancillary:
        fds.frombytes(payload)
    return (json.loads(data) if data else []), list(fds)


def read_to_end(fd: int) -> str:
    """A terminal says EIO when its last user is gone."""
    found = b""
    try:
        while data := os.read(fd, 65536):
            found += data
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    os.close(fd)
    return found.decode()


def inside(lab: Lab, body: Callable[[Box], Awaitable[Any]], **changes: Any) -> Any:
    """Runs `body` while a job sleeps."""

    async def main(client: Launcher) -> Any:
        async with lab.box(client, SLEEPER, **changes) as box:
            await box.create()
            await box.go()
            await box.until_output("up")
            return await body(box)

    return lab.call(main)


def executed(lab: Lab, *argv: str, tty: bool = False, **options: Any) -> tuple[str, str, int]:
    """(stdout, stderr, status) of a program run in a sleeping job."""

    async def body(box: Box) -> tuple[str, str, int]:
        connection = await box.exec(*argv, tty=tty, **options)
        message, fds = receive(connection)
        assert message == ["Started", tty]
        if tty:
            out, err = read_to_end(fds[0]), ""
        else:
            os.close(fds[0])
            out, err = read_to_end(fds[1]), read_to_end(fds[2])
        message, _ = receive(connection)
        connection.close()
        assert message[0] == "Exited"
        return out, err, message[1]

    return inside(lab, body)  # type: ignore[no-any-return]


def test_output_and_status(lab: Lab) -> None:
    assert executed(lab, "sh", "-c", "echo out; echo err >&2; exit 3") == ("out\n", "err\n", 3)
    assert executed(lab, "sh", "-c", "kill -9 $$")[2] == 137


def test_input(lab: Lab) -> None:
    async def body(box: Box) -> str:
        connection = await box.exec("tr", "a-z", "A-Z")
        _, fds = receive(connection)
        os.write(fds[0], b"shout")
        os.close(fds[0])
        os.close(fds[2])
        connection.close()
        return read_to_end(fds[1])

    assert inside(lab, body) == "SHOUT"


def test_it_is_in_all_namespaces_of_the_job(lab: Lab) -> None:
    async def body(box: Box) -> None:
        connection = await box.exec("readlink", *(f"/proc/self/ns/{name}" for name in NAMESPACES))
        _, fds = receive(connection)
        found = read_to_end(fds[1]).split()
        assert found == [os.readlink(f"/proc/{box.init_pid}/ns/{name}") for name in NAMESPACES]
        connection.close()
        for fd in (fds[0], fds[2]):
            os.close(fd)

    inside(lab, body)


@pytest.mark.parametrize("tty", [False, True])
def test_it_has_no_power_and_no_descriptor_of_ours(lab: Lab, tty: bool) -> None:
    script = "cat /proc/$$/status; for n in $(seq 0 99); do if [ -e /proc/$$/fd/$n ]; then echo fd=$n; fi; done"
    out = executed(lab, "sh", "-c", script, tty=tty)[0].replace("\r", "")
    found = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (found["NoNewPrivs"], found["Uid"].split()[0], found["Groups"].split()) == ("1", "1000", ["1000", "2000"])
    assert [line for line in out.splitlines() if line.startswith("fd=")] == ["fd=0", "fd=1", "fd=2"]


def test_a_terminal_of_the_jobs_own(lab: Lab) -> None:
    out, _, status = executed(
        lab, "sh", "-c", "tty; stat -c '%U %a' $(tty); ps -o tty= -p $$; echo $TERM; test -t 0", tty=True
    )
    lines = out.replace("\r", "").splitlines()
    assert lines[0] == "/dev/pts/0"
    assert lines[1].endswith(" 620")
    assert lines[2].strip() == "pts/0"  # the controlling terminal
    assert status == 0


def test_environment_and_folder_are_the_jobs(lab: Lab) -> None:
    out = executed(lab, "sh", "-c", "echo $FROM_SPEC $HOME $ADDED; pwd", env=(("ADDED", "2"),))[0]
    assert out == "1 /home/alice 2\n/\n"


def test_a_missing_program_is_told(lab: Lab) -> None:
    async def body(box: Box) -> None:
        connection = await box.exec("no-such-program")
        assert receive(connection)[0] == ["StepError", "exec", errno.ENOENT, "no-such-program"]
        assert receive(connection)[0] == []
        connection.close()

    inside(lab, body)


def test_a_ticket_is_good_for_one_time(lab: Lab) -> None:
    from runtime.plan import exec_request

    async def body(box: Box) -> None:
        ticket = await box.client.open_exec(box.id, exec_request(box.inputs, ("true",), tty=False), 0)
        first, second = lab.show_ticket(ticket), lab.show_ticket(ticket)
        assert receive(first)[0] == ["Started", False]
        assert receive(second)[0][:2] == ["StepError", "ticket"]
        first.close()
        second.close()

    inside(lab, body)


@pytest.mark.parametrize(("uid", "answer"), [(1000, "Started"), (1001, "StepError"), (0, "StepError")])
def test_a_ticket_is_good_for_one_user(lab: Lab, uid: int, answer: str) -> None:
    """The folder of the sockets may be entered by all: what refuses is the kernel's word on who connected."""
    from runtime.plan import exec_request

    code = (
        "import os,socket,sys; os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]));"
        "s=socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]);"
        's.send(b\'["Ticket", "%s"]\' % sys.argv[3].encode()); print(s.recv(1000).decode())'
    )

    async def body(box: Box) -> str:
        ticket = await box.client.open_exec(box.id, exec_request(box.inputs, ("true",), tty=False), 1000)
        argv = [sys.executable, "-I", "-S", "-c", code, f"{lab.run_dir}/exec.sock", str(uid), ticket]
        return (await anyio.run_process(argv)).stdout.decode()

    assert json.loads(inside(lab, body))[0] == answer


def test_no_ticket_before_it_runs(lab: Lab) -> None:
    from jobs.errors import StepFailed
    from runtime.plan import exec_request

    async def main(client: Launcher) -> None:
        async with lab.box(client, SLEEPER) as box:
            await box.create()
            with pytest.raises(StepFailed) as told:
                await client.open_exec(box.id, exec_request(box.inputs, ("true",), tty=False), 0)
            assert told.value.errno == errno.ESRCH

    lab.call(main)


def test_a_frozen_group_is_refused(lab: Lab, tmp_path: Path) -> None:
    for told in ("populated 1\nfrozen 1\n", "FROZEN\n", "FREEZING\n"):
        (tmp_path / "state").write_text(told)

        async def body(box: Box) -> list[Any]:
            connection = await box.exec("true", freezers=(str(tmp_path / "state"),))
            answer, _ = receive(connection)
            connection.close()
            return answer

        assert inside(lab, body) == ["StepError", "frozen", errno.EBUSY, str(tmp_path / "state")]
    (tmp_path / "state").write_text("populated 1\nfrozen 0\n")
    assert inside(lab, body)[0] == "Started"  # the control


def test_the_session_outlives_launcher_and_daemon(own_lab: Lab) -> None:
    lab = own_lab
    lab.start()

    async def body(box: Box) -> tuple[str, list[Any]]:
        connection = await box.exec("sh", "-c", "echo began; read line; echo $line; exit 4")
        _, fds = receive(connection)
        assert os.read(fds[1], 100) == b"began\n"
        lab.kill()
        os.write(fds[0], b"still here\n")
        os.close(fds[0])
        os.close(fds[2])
        out = read_to_end(fds[1])
        answer, _ = receive(connection)
        connection.close()
        return out, answer

    assert inside(lab, body) == ("still here\n", ["Exited", 4])


def test_nobody_inside_can_look_into_one_that_enters(lab: Lab) -> None:
    """CVE-2016-9962: a loop inside tries to open the descriptors of every new process while 60 enter."""
    looking = (
        "import os\nprint('looking', flush=True)\nseen = set()\nwhile True:\n"
        "  for pid in os.listdir('/proc'):\n"
        "    if pid.isdigit() and int(pid) > 2:\n"
        "      try:\n"
        "        for fd in os.listdir(f'/proc/{pid}/fd'):\n"
        "          told = os.readlink(f'/proc/{pid}/fd/{fd}')\n"
        "          if told not in seen: seen.add(told); print(told, flush=True)\n"
        "      except OSError: pass\n"
    )
    spec = JobSpec(name="lab", command=("python3", "-u", "-c", looking), run_as="root")

    async def main(client: Launcher) -> str:
        async with lab.box(client, spec) as box:
            await box.create()
            await box.go()
            await box.until_output("looking")
            for _ in range(60):
                connection = await box.exec("true")
                _, fds = receive(connection)
                for fd in fds:
                    os.close(fd)
                receive(connection)
                connection.close()
            # The control: what runs *in* the job, the looker sees.
            connection = await box.exec("sh", "-c", "exec 7</etc/hostname; sleep 60")
            _, fds = receive(connection)
            await box.until_output("/etc/hostname")
            connection.close()
            for fd in fds:
                os.close(fd)
            return (box.spool / "stdout").read_text()

    told = lab.call(main)
    allowed = ("looking", "pipe:", "/etc/hostname", "/dev/null", "/proc/", "/", "/usr/lib", "/lib")
    strange = [line for line in told.splitlines() if not line.startswith(allowed)]
    assert not strange
    assert not [
        line for line in told.splitlines() if "socket:" in line or str(lab.folder) in line or "anon_inode" in line
    ]
