"""A CPU goes offline under a job and comes back: who is told, and whether the job's place is whole again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crowd import DEADLINE_S, Crowd, build_tools, client_of, submit
from installation import Installation, wait_for
from kernel_account import Account, account
from placement_jobs import MIB, Asked

from runtime.cgroups.files import write

pytestmark = pytest.mark.needs("root", "numa.4", "cpus.8", "tool.gcc")


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with Installation(reserve_memory=str(256 * MIB)) as running:
        yield running


@pytest.fixture(scope="module")
def tools(site: Installation) -> str:
    return build_tools(site)


@contextmanager
def offline(*cpus: int) -> Iterator[None]:
    for cpu in cpus:
        write(f"/sys/devices/system/cpu/cpu{cpu}/online", "0")
    try:
        yield
    finally:
        for cpu in cpus:
            write(f"/sys/devices/system/cpu/cpu{cpu}/online", "1")


def a_job_on(run: Crowd, tools: str, cpus: int, node: int) -> int:
    given = submit(run.site, [Asked(1, f"on-{node}", cpus, f"[{node}]", (), threads=2)], tools)
    run.asked |= given
    wait_for(lambda: all(map(run.ready, given)), DEADLINE_S, run.explain)
    run.look(list(given))
    return next(iter(given))


def seen(run: Crowd, job: int) -> Account:
    return account(run.site, run.recorded[job].execution)


def logged(run: Crowd, text: str) -> None:
    log = Path(run.site.folder, "jobsd.log")
    wait_for(lambda: text in log.read_text(), DEADLINE_S, run.explain)


def whole_again(run: Crowd, job: int) -> None:
    record = run.recorded[job]
    wait_for(lambda: seen(run, job).cpus == record.cpus, DEADLINE_S, lambda: f"{seen(run, job)}\n{run.explain()}")
    wait_for(lambda: {thread.cpus for thread in seen(run, job).threads} == {record.cpus}, DEADLINE_S, run.explain)


def test_a_job_goes_on_with_the_rest_and_gets_its_cpu_back(site: Installation, tools: str) -> None:
    run = Crowd(site, client_of(site), {})
    job = a_job_on(run, tools, 2, 3)
    execution = run.recorded[job].execution
    with offline(7):
        logged(run, f"execution {execution} has lost CPUs 7; it goes on with 6")
        assert {thread.cpus for thread in seen(run, job).threads} == {(6,)}
        assert run.client.host()["offline"] == [{"cpu": 7, "executions": [execution]}]
    whole_again(run, job)
    assert run.client.host()["offline"] == []
    run.let_go([job])


def test_a_job_without_any_cpu_left_is_called_a_danger_and_comes_home(site: Installation, tools: str) -> None:
    run = Crowd(site, client_of(site), {})
    job = a_job_on(run, tools, 1, 3)
    execution, (cpu,) = run.recorded[job].execution, run.recorded[job].cpus
    with offline(cpu):
        logged(run, f"execution {execution} has lost CPUs {cpu}; it runs on the CPUs of others now: pause it")
    whole_again(run, job)
    run.let_go([job])


def test_a_job_does_not_start_on_a_cpu_that_is_gone(site: Installation, tools: str) -> None:
    run = Crowd(site, client_of(site), {})
    with offline(5):
        (job,) = submit(site, [Asked(1, "late", 2, "[2]", ())], tools)
        wait_for(lambda: run.client.job(job).cleaned, DEADLINE_S, run.explain)
        assert run.client.job(job).state == "failed"
        assert "cgroup:cpuset" in run.client.job(job).reason
        assert "bring it back, or restart jobsd" in run.client.job(job).reason
