"""The product as services of systemd, installed by scripts/install: what the tests in this folder ask of them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs import protocol
from jobs.client import Client

ROOT = Path(__file__).resolve().parents[3]
UNITS = ("jobs-cgroup", "jobs-launcher", "jobsd")
GROUP = Path("/sys/fs/cgroup/system.slice/jobs-cgroup.service")
DEADLINE_S = 300.0  # an interpreter that starts takes half a minute in an emulated machine
BOOT_AGAIN = Path("/run/jobs-vm-again")  # tests/vm/inside/command-once

# Counts aloud until somebody makes /shared/stop; ends with a status of its own.
COUNTING = """\
name = "{name}"
script = '''
i=0
until [ -e /shared/{name}.stop ]; do i=$((i + 1)); echo "count $i"; sleep 0.2; done
echo "last $i"
exit 7
'''
{more}
[resources]
cpus = 0.2
memory = "64MiB"
[[mounts]]
source = "/srv/shared"
target = "/shared"
mode = "ro"
"""
SHARED = Path("/srv/shared")


def run(*argv: str, check: bool = True, text: str | None = None, timeout: float = DEADLINE_S) -> str:
    """Standard output. Raises AssertionError with both outputs where the command fails."""
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, check=False, timeout=timeout, cwd="/",
        stdin=subprocess.DEVNULL if text is None else None,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(ready: Callable[[], bool], explain: Callable[[], object] = lambda: "") -> None:
    """Asks again until it is so. Raises AssertionError after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not ready():
        assert time.monotonic() < end, f"not so within {DEADLINE_S} s: {explain()}\n{journal('jobsd')[-3000:]}"
        time.sleep(0.2)


# ── systemd ────────────────────────────────────────────────────────────────────────────────────────────────────────


def of(unit: str, name: str) -> str:
    """A property of a unit."""
    return run("systemctl", "show", "--property", name, "--value", unit).strip()


def main_pid(unit: str) -> int:
    return int(of(unit, "MainPID"))


def active() -> dict[str, str]:
    return {unit: of(unit, "ActiveState") for unit in UNITS}


def until_all_active() -> None:
    until(lambda: set(active().values()) == {"active"}, active)


def journal(unit: str, *options: str) -> str:
    return run("journalctl", "--no-pager", "--unit", unit, "--boot", *options)


def entries(unit: str) -> list[dict[str, Any]]:
    """What journald has of a unit in this boot, field by field."""
    return [json.loads(each) for each in journal(unit, "--output", "json").splitlines()]


# ── jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


# The CLI where it is what a test is about; the API elsewhere: each start of an interpreter takes seconds.


def jobsctl(*arguments: str, check: bool = True, text: str | None = None) -> str:
    return run("jobsctl", *arguments, check=check, text=text)


def daemon() -> Client:
    return Client("/run/jobs/jobsd.sock", patience_s=DEADLINE_S)


def submit(toml: str, hold: bool = False) -> int:
    return daemon().submit([protocol.SpecText(toml, "spec.toml", "/", "/")], hold=hold).jobs[0]


def show(job: int) -> dict[str, Any]:
    return asdict(daemon().job(job))


def until_state(job: int, *states: str) -> dict[str, Any]:
    until(lambda: show(job)["state"] in states, lambda: show(job))
    return show(job)


def pause(job: int) -> None:
    daemon().pause(job, protocol.Pause())
    until_state(job, "frozen")


def resume(job: int) -> None:
    daemon().resume(job)
    until_state(job, "running")


def count_of(job: int) -> int:
    """How far a counting job came, by what its monitor wrote down."""
    lines = Path(f"/var/lib/jobs/spool/{show(job)['execution']}/stdout").read_text().splitlines()
    return int(lines[-1].split()[1]) if lines else 0


def until_it_counts(job: int) -> None:
    """It is alive now: it says more than it had said."""
    before = count_of(job)
    until(lambda: count_of(job) > before, lambda: show(job))


def start_counting(name: str, more: str = "") -> int:
    """A job that is seen to run."""
    SHARED.mkdir(exist_ok=True)
    job = submit(COUNTING.format(name=name, more=more))
    until_state(job, "running")
    until_it_counts(job)
    return job


def finish_counting(job: int, name: str) -> None:
    """Lets it end, and checks that status and every line of output arrived."""
    (SHARED / f"{name}.stop").touch()
    record = until_state(job, "failed", "completed", "lost", "cancelled")
    assert (record["state"], record["exit_status"]) == ("failed", 7), record
    lines = jobsctl("logs", str(job)).splitlines()
    last = int(lines[-1].split()[1])
    assert lines == [*(f"count {number}" for number in range(1, last + 1)), f"last {last}"]
    (SHARED / f"{name}.stop").unlink()


def processes_of(job: int) -> list[int]:
    """Of its container, by the kernel's account."""
    folder = GROUP / show(job)["execution"] / "run"
    return [int(pid) for file in folder.rglob("cgroup.procs") for pid in file.read_text().split()]


def boot_number() -> int:
    return int(os.environ.get("JOBS_VM_BOOT", "1"))
