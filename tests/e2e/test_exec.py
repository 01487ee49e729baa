"""`jobs exec` through the real launcher: what runs there is inside the job, and is ended with it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import time

import pytest
from installation import BIN, Installation, spec

INSIDE = "id -u; hostname; cat /proc/self/cgroup; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"


@pytest.fixture(scope="module")
def job(site: Installation) -> int:
    job = site.submit(spec("sleeper", ["sleep", "600"]))
    site.until(job, "running")
    return job


def test_status_streams_and_input(site: Installation, job: int) -> None:
    done = site.cli("exec", str(job), "--", "sh", "-c", "cat; echo oops >&2; exit 9", input="x" * 300_000, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (9, "x" * 300_000, "oops\n")


def test_it_has_what_the_job_has_and_no_more(site: Installation, job: int) -> None:
    done = site.cli("exec", str(job), "sh", "-c", INSIDE)
    assert "CapEff:\t0000000000000000" in done.stdout and "NoNewPrivs:\t1" in done.stdout
    assert "Seccomp:\t2" in done.stdout
    namespaces = site.cli("exec", str(job), "sh", "-c", "readlink /proc/self/ns/* /proc/1/ns/*").stdout.split()
    half = len(namespaces) // 2
    assert namespaces[:half] == namespaces[half:]
    assert not {os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "net", "mnt", "user")} & set(namespaces)


def test_on_a_terminal(site: Installation, job: int) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(BIN / "jobsctl", ["jobsctl", "exec", str(job)], {**site.environment(), "TERM": "xterm"})
    text, deadline = "", time.monotonic() + 60
    os.write(fd, b"tty; echo re''ady; exit 4\r")
    while time.monotonic() < deadline:
        ready, _, _ = select.select([fd], [], [], 1)
        try:
            data = os.read(fd, 65536) if ready else b""
        except OSError:
            break
        text += data.decode(errors="replace")
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert re.search(r"/dev/pts/\d+\r\nready", text), text


def test_a_missing_program(site: Installation, job: int) -> None:
    done = site.cli("exec", str(job), "/bin/nothing", check=False)
    assert done.returncode == 3 and "No such file or directory" in done.stderr


def test_another_user_gets_no_way_in(site: Installation, job: int) -> None:
    done = site.cli("exec", str(job), "true", check=False, user=61001)
    assert done.returncode == 2 and f"no job {job}" in done.stderr


def test_not_into_a_frozen_job_and_gone_with_it(site: Installation, job: int) -> None:
    site.cli("pause", "--wait", str(job))
    done = site.cli("exec", str(job), "true", check=False)
    assert done.returncode == 2 and "frozen" in done.stderr
    site.cli("resume", "--wait", str(job))
    kinds = [json.loads(line)["kind"] for line in site.cli("events", "--job", str(job)).stdout.splitlines()]
    assert kinds[-2:] == ["thaw_placed", "thawed"]
