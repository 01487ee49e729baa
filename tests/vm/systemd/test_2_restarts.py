"""What restarts, kills and reloads do to running and frozen jobs: nothing, but where the holder of the groups ends."""

from __future__ import annotations

import os
import signal

import pytest
import services
from services import GROUP, jobsctl, run

pytestmark = pytest.mark.needs("systemd", "boot.1")


def _restart(unit: str) -> None:
    run("systemctl", "restart", unit)


def _stop_and_start(unit: str) -> None:
    run("systemctl", "stop", unit)
    run("systemctl", "start", unit)


def _kill(unit: str) -> None:
    """systemd starts it again by itself."""
    before = services.main_pid(unit)
    os.kill(before, signal.SIGKILL)
    services.until(lambda: services.main_pid(unit) not in (0, before), services.active)


def _reload(unit: str) -> None:
    """The launcher becomes the program that is installed now: the same process."""
    before = services.main_pid(unit)
    run("systemctl", "reload", unit)
    assert services.main_pid(unit) == before


@pytest.mark.parametrize(
    "unit, how",
    [
        ("jobsd", _restart), ("jobsd", _stop_and_start), ("jobsd", _kill),
        ("jobs-launcher", _restart), ("jobs-launcher", _stop_and_start), ("jobs-launcher", _kill),
        ("jobs-launcher", _reload),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_"),
)  # fmt: skip
def test_jobs_go_on(unit: str, how: object) -> None:
    """One that runs and one that is frozen; afterwards both end with all their output and the status is true."""
    running = services.start_counting("running")
    frozen = services.start_counting("frozen")
    services.pause(frozen)
    stood = services.count_of(frozen)
    pids = services.processes_of(running), services.processes_of(frozen)
    assert callable(how)
    how(unit)
    services.until_all_active()
    services.until_it_counts(running)
    assert services.show(frozen)["state"] == "frozen"
    assert services.count_of(frozen) == stood
    assert (GROUP / services.show(frozen)["execution"] / "run/cgroup.events").read_text().split()[-1] == "1"
    assert services.processes_of(frozen) == pids[1]
    assert set(pids[0]) & set(services.processes_of(running))
    assert "running" in jobsctl("exec", str(running), "--", "sh", "-c", "echo running")
    services.resume(frozen)
    services.until_it_counts(frozen)
    services.finish_counting(running, "running")
    services.finish_counting(frozen, "frozen")


@pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
def test_systemd_itself_starts_anew(verb: str) -> None:
    running = services.start_counting("running")
    frozen = services.start_counting("frozen")
    services.pause(frozen)
    pids = {unit: services.main_pid(unit) for unit in services.UNITS}
    limits = (GROUP / services.show(running)["execution"] / "run/memory.max").read_text()
    run("systemctl", verb)
    services.until_it_counts(running)
    assert {unit: services.main_pid(unit) for unit in services.UNITS} == pids
    assert services.show(frozen)["state"] == "frozen"
    assert (GROUP / services.show(running)["execution"] / "run/memory.max").read_text() == limits
    assert "hugetlb" in (GROUP / "cgroup.subtree_control").read_text()
    services.resume(frozen)
    services.finish_counting(running, "running")
    services.finish_counting(frozen, "frozen")


def test_a_job_that_takes_too_much_memory_is_nobody_elses_business() -> None:
    pids = {unit: services.main_pid(unit) for unit in services.UNITS}
    job = services.submit(
        'name = "greedy"\ncommand = ["python3", "-c", "x = bytearray(1 << 30)"]\n'
        '[resources]\ncpus = 0.2\nmemory = "64MiB"\n'
    )
    assert services.until_state(job, "out_of_memory", "failed", "completed")["state"] == "out_of_memory"
    assert {unit: services.main_pid(unit) for unit in services.UNITS} == pids
    assert services.active() == dict.fromkeys(services.UNITS, "active")


@pytest.mark.parametrize("paused", [False, True], ids=["running", "frozen"])
def test_stopping_the_holder_ends_the_jobs_in_order(paused: bool) -> None:
    """The one thing that does; what else is up goes down with it, and after a start the daemon knows what happened."""
    job = services.start_counting("doomed")
    if paused:
        services.pause(job)
    pids = services.processes_of(job)
    run("systemctl", "stop", "jobs-cgroup")
    services.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), lambda: pids)
    assert set(services.active().values()) <= {"inactive"}
    run("systemctl", "start", *services.UNITS)
    services.until_all_active()
    record = services.until_state(job, "lost", "failed", "cancelled", "completed")
    assert record["state"] == "lost", record
    assert not (GROUP / record["execution"]).exists()
    again = services.start_counting("again")
    services.finish_counting(again, "again")
