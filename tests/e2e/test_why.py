"""`why` of jobs on the real daemon, by the command line that people type."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from installation import Installation

USER = 61001
SMALL = 'network.mode = "none"\n[resources]\ncpus = 0.1\nmemory = "16MiB"\n'


@pytest.fixture(scope="module")
def full(site: Installation) -> Iterator[int]:
    """A job that has all CPUs."""
    resources = f'network.mode = "none"\n[resources]\ncpus = {len(os.sched_getaffinity(0))}\nmemory = "16MiB"\n'
    job = site.submit(f'name = "full"\ncommand = ["sleep", "3600"]\ntime_limit = "1h"\n{resources}')
    site.until(job, "running")
    yield job
    site.cli("cancel", "--kill", str(job))


def small(site: Installation, name: str, keys: str = "", **options: int) -> int:
    return site.submit(f'name = "{name}"\ncommand = ["true"]\n{keys}{SMALL}', **options)


def lines(site: Installation, job: int) -> dict[str, str]:
    """The page of `jobs why`, by its labels; "" is the first line."""
    first, *rows = site.cli("why", str(job)).stdout.splitlines()
    return {"": first} | dict(row.strip().split("  ", 1) for row in rows)


def test_no_cpu_is_free_now(site: Installation, full: int) -> None:
    job = small(site, "narrow")
    told = lines(site, job)
    assert told[""] == f"job {job} (narrow) does not run now"
    assert re.search(rf"1 wanted, 0 free; held by job {full} \(full, running, expected to end in \d+m", told["cpus"])
    assert re.search(r"at the earliest in \d+m.*, by the time limits of what runs", told["start"])
    answer = json.loads(site.cli("why", "--json", str(job)).stdout)
    assert (answer["verdict"], answer["lacks"][0]["blockers"]) == ("not now", [full])


def test_what_is_not_there_yet_or_closed_or_held(site: Installation, full: int) -> None:
    first = small(site, "first")
    after = small(site, "after", f"depends.afterok = [{first}]\n")
    assert f"waits for afterok first; on job {first} (first, queued)" in lines(site, after)["dependency"]
    later = small(site, "later", 'begin = "+2h"\n')
    told = lines(site, later)
    assert "not before 20" in told["begin"] and re.search(r"at the earliest in (1h59m|2h)", told["start"])
    held = small(site, "held", user=USER)
    site.cli("hold", str(held))
    assert lines(site, held)["held"].strip() == "held by an operator"
    assert lines(site, held)["start"].strip() == "not known: somebody must release it"
    site.cli("queue", "drain", "default")
    try:
        told = lines(site, first)
    finally:
        site.cli("queue", "open", "default")
    assert told["queue"].strip() == "queue 'default' is drained"
    assert told["start"].strip() == "not known: an operator must open its queue"


def test_a_user_is_told_of_jobs_of_others_by_their_ids(site: Installation, full: int) -> None:
    job = small(site, "mine", user=USER)
    told = site.cli("why", str(job), user=USER).stdout
    assert f"job {full} (running" in told and "full" not in told
    refused = site.cli("why", str(full), user=USER, check=False)
    assert refused.returncode != 0 and f"no job {full}" in refused.stderr


def test_blame_and_the_past_from_the_journal() -> None:
    with Installation() as site:
        told_of_the_past(site)


def told_of_the_past(site: Installation) -> None:
    cpus = f'network.mode = "none"\n[resources]\ncpus = {len(os.sched_getaffinity(0))}\nmemory = "16MiB"\n'
    wait = f'mounts = [{{ source = "{site.folder}", target = "/go" }}]\n'
    first = site.submit(f'name = "first"\nscript = "until [ -e /go/on ]; do sleep 0.05; done"\n{wait}{cpus}')
    site.until(first, "running")
    job = site.submit(f'name = "second"\ncommand = ["true"]\n{cpus}', "--hold")
    site.cli("release", str(job))
    site.until(job, "queued")
    site.kill_daemon()
    site.start_daemon()
    site.wait_ready()
    then = str(datetime.now(UTC))
    (site.folder / "on").touch()
    assert site.wait(first, job) == 0, site.logs()
    told = site.cli("blame", str(job)).stdout
    assert re.search(rf"cpus +job {first} \(first, root\)", told) and "starting" in told and "held" in told
    assert "note: the daemon was started again at" in told
    blame = json.loads(site.cli("blame", "--json", str(job)).stdout)
    assert sum(part["seconds"] for part in blame["parts"]) == pytest.approx(blame["waited_s"])
    waited = site.show(job)["started_at"] - site.show(job)["submitted_at"]
    assert blame["waited_s"] == pytest.approx(waited, abs=1.0)
    past = site.cli("why", str(job), "--at", then).stdout
    assert past.startswith(f"job {job} (second) did not run at ") and f"held by job {first} (first, running" in past
    assert "not a time" in site.cli("why", str(job), "--at", "yore", check=False).stderr
