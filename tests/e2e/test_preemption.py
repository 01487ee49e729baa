"""A host full of long jobs of low urgency: an urgent one gets CPUs by freezing them, and none of them loses work."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from installation import Installation

CHAIN = """
import hashlib, os
digest, rounds = b"long", 0
while not os.path.exists("/go/end"):
    for _ in range(1000):
        digest = hashlib.sha256(digest).digest()
    rounds += 1000
print(rounds, digest.hex())
"""
WAIT = ["sh", "-c", "until [ -e /go/urgent-over ]; do sleep 0.05; done"]


def chain(rounds: int) -> str:
    digest = b"long"
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


def test_an_urgent_job_freezes_what_is_in_its_way(site: Installation) -> None:
    folder = site.folder / "go"
    folder.mkdir()
    mount = f'mounts = [{{ source = "{folder}", target = "/go" }}]\n'
    resources = '[resources]\ncpus = 1\nmemory = "64MiB"\n'
    command = f'command = ["python3", "-c", {json.dumps(CHAIN)}]\n'
    cpus = len(os.sched_getaffinity(0))
    long = [site.submit(f'name = "long"\npriority = 10\n{command}{mount}{resources}') for _ in range(cpus)]
    for job in long:
        site.until(job, "running")
    mid = site.submit(f'name = "mid"\npriority = 10\ncommand = ["true"]\n{resources}')
    urgent = site.submit(f'name = "urgent"\npriority = 90\ncommand = {json.dumps(WAIT)}\n{mount}{resources}')
    site.until(urgent, "running")
    (frozen,) = [job for job in long if site.show(job)["preempted_by"]]
    assert site.until(frozen, "frozen")["preempted_by"] == urgent
    assert f"by the scheduler for job {urgent}" in site.cli("show", str(frozen)).stdout
    assert site.show(mid)["state"] == "queued", "it is no more urgent than those that run"
    (folder / "urgent-over").touch()
    assert site.wait(urgent) == 0
    assert site.until(frozen, "running")["preempted_by"] == 0
    assert site.show(mid)["state"] == "queued", "the frozen one comes back first"
    (folder / "end").touch()
    for job in (*long, mid):
        assert site.wait(job) == 0, site.output(job, "--stderr")
    for job in long:
        rounds, digest = site.output(job).split()
        assert digest == chain(int(rounds)), "not a round of the work is lost"
    shown = site.show(frozen)
    assert (shown["freezes"], shown["attempt"]) == (1, 1)
    kinds = [json.loads(line)["kind"] for line in site.cli("events", "--job", str(frozen)).stdout.splitlines()]
    assert kinds[3:7] == ["preempted", "frozen", "thaw_placed", "thawed"]


def test_memory_that_victims_do_not_keep_is_given_to_the_urgent_one(site: Installation) -> None:
    """Each may take four tenths of the host's memory and keeps some MiB; half of it is wanted, on all CPUs."""
    cpus = len(os.sched_getaffinity(0))
    host = json.loads(site.cli("show", "--host", "--json").stdout)
    mib = sum(node["memory_bytes"] for node in host["nodes"]) * 9 // 10 >> 20
    folder = a_folder(site, "large")
    large = [waiting(site, folder, 10, cpus / 2, mib * 4 // 10) for _ in range(2)]
    for job in large:
        site.until(job, "running")
    urgent = waiting(site, folder, 90, cpus, mib // 2)
    site.until(urgent, "running")
    for job in large:
        assert site.until(job, "frozen")["preempted_by"] == urgent
        (counted,) = (each["resident_bytes"] for each in events(site, job) if each["kind"] == "preempted")
        assert counted < 64 << 20
    (folder / "urgent-over").touch()
    for job in (urgent, *large):
        assert site.wait(job) == 0, site.output(job, "--stderr")


def test_jobs_that_talk_to_each_other_stand_still_and_go_on_together(site: Installation) -> None:
    """One CPU is wanted, and both give theirs."""
    folder = a_folder(site, "pair")
    cpus = len(os.sched_getaffinity(0))
    pair = [waiting(site, folder, 10, cpus / 2, 64, 'freeze_with = "pair"\n', until="pair-over") for _ in range(2)]
    for job in pair:
        site.until(job, "running")
    urgent = waiting(site, folder, 90, min(1, cpus / 2), 64)
    site.until(urgent, "running")
    for job in pair:
        assert site.until(job, "frozen")["preempted_by"] == urgent
    (folder / "urgent-over").touch()
    assert site.wait(urgent) == 0
    for job in pair:
        assert site.until(job, "running")["freezes"] == 1
    (folder / "pair-over").touch()
    for job in pair:
        assert site.wait(job) == 0, site.output(job, "--stderr")
    kinds = [[each["kind"] for each in events(site, job)] for job in pair]
    assert kinds[0] == kinds[1] and kinds[0].count("preempted") == kinds[0].count("thawed") == 1


def a_folder(site: Installation, name: str) -> Path:
    folder = site.folder / name
    folder.mkdir()
    return folder


def waiting(
    site: Installation, folder: Path, priority: int, cpus: float, mib: int, more: str = "", until: str = "urgent-over"
) -> int:
    """A job that ends when the file is there."""
    command = ["sh", "-c", f"until [ -e /go/{until} ]; do sleep 0.05; done"]
    resources = f'[resources]\ncpus = {cpus}\nmemory = "{mib}MiB"\n[placement]\nnuma = "any"\n'
    return site.submit(
        f'name = "waiting"\npriority = {priority}\ncommand = {json.dumps(command)}\n{more}'
        f'mounts = [{{ source = "{folder}", target = "/go" }}]\n{resources}'
    )


def events(site: Installation, job: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.cli("events", "--job", str(job)).stdout.splitlines()]
