"""Children that fail, hang, are killed by a filter, or exit behind our back: each is an answer, and none stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import leaks
import pytest
from killing_filter import KILL_UNSHARE, UNSHARE

from runtime import syscalls as sc
from runtime.attempt import attempt


def children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return set(file.read().split())


def refuse() -> str:
    raise PermissionError(1, "x", "/some/place")


def break_down() -> str:
    raise KeyError("kexec")


def leave() -> str:
    os.write(2, b"mnl.c: no such protocol\n")
    os._exit(1)


def hang() -> str:
    pid = os.fork()  # and so does a child of it, which holds the pipe
    signal.pause()
    return str(pid)


def leave_a_child_that_holds_the_pipe() -> str:
    if os.fork() == 0:
        signal.pause()
    return "said"


def filtered() -> str:
    sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    sc.seccomp_set_filter(KILL_UNSHARE)
    sc.unshare(sc.CLONE_NEWUTS)
    return ""


def test_what_it_says_is_the_answer() -> None:
    assert attempt(lambda: "7") == (True, "7")


def test_a_refusal_names_error_and_path() -> None:
    assert attempt(refuse) == (False, "EPERM: Operation not permitted: /some/place")


def test_a_defect_of_ours_is_an_answer_too() -> None:
    assert attempt(break_down) == (False, "KeyError: 'kexec'")


def test_a_library_that_complains_and_exits(capfd: pytest.CaptureFixture[str]) -> None:
    assert attempt(leave) == (False, "mnl.c: no such protocol")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(UNSHARE < 0, reason="needs x86: the number of unshare(2) is not known here")
def test_a_filter_that_kills_costs_its_own_answer_only() -> None:
    assert attempt(filtered) == (False, "killed by SIGSYS")
    assert attempt(lambda: "still here") == (True, "still here")


def test_what_hangs_is_killed_with_its_children() -> None:
    before = children()
    began = time.monotonic()
    assert attempt(hang, deadline_s=0.3) == (None, "no answer within 0.3 s")
    assert time.monotonic() - began < 60 and children() == before
    assert leaks.polled(lambda: not processes_of_group(), 10)


def test_a_child_that_it_left_is_killed_too() -> None:
    assert attempt(leave_a_child_that_holds_the_pipe, deadline_s=0.5) == (True, "said")
    assert leaks.polled(lambda: not processes_of_group(), 10)


def processes_of_group() -> list[str]:
    """What is left of the children's process groups: they are ours by session, and no group of ours but the first."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,sid="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    known = {str(os.getpgrp()), str(os.getpgid(os.getppid()))}
    mine = str(os.getsid(0))
    return [pid for pid, group, session in rows if session == mine and group not in known and is_python_of_ours(pid)]


def is_python_of_ours(pid: str) -> bool:
    """A fork of this very process has its command line."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as theirs, open("/proc/self/cmdline", "rb") as own:
            return theirs.read() == own.read() and sys.executable != ""
    except OSError:
        return False


def test_no_process_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    worked, said = attempt(lambda: "")
    assert worked is None and "Resource temporarily unavailable" in said
