"""Jobs that touch memory, looked at while they run: side by side in waves, or as they come. For tests of placement."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from installation import Installation, wait_for
from kernel_account import Account, account, by_node, program
from placement_jobs import Asked

from jobs import cpuset
from jobs.client import Client
from jobs.protocol import Job, Pause

PROGRAM = Path(__file__).parent / "programs/touch.c"
DEADLINE_S = 300.0  # for one wave of jobs on an emulated machine


def build_tools(site: Installation) -> str:
    """Host folder with the program that jobs run."""
    folder = site.folder / "tools"
    folder.mkdir()
    subprocess.run(["gcc", "-O2", "-pthread", "-o", folder / "touch", PROGRAM], check=True)
    return str(folder)


def client_of(site: Installation) -> Client:
    """The CLI takes a second to start on an emulated machine; this is what it uses."""
    return Client(f"{site.settings['run_dir']}/jobsd.sock")


def submit(site: Installation, asked: Sequence[Asked], tools: str, *flags: str) -> dict[int, Asked]:
    """All at once, in this order."""
    for job in asked:
        (site.folder / f"{job.name}.toml").write_text(job.toml(tools))
    files = [str(site.folder / f"{job.name}.toml") for job in asked]
    given = json.loads(site.cli("submit", "--json", *flags, *files).stdout)
    return {int(item["job"]): job for item, job in zip(given, asked, strict=True)}


@dataclass
class Crowd:
    """Jobs that were asked for, and what the kernel showed of each while it ran, and again while it was frozen."""

    site: Installation
    client: Client
    asked: dict[int, Asked]
    seen: dict[int, Account] = field(default_factory=dict)
    frozen: dict[int, Account] = field(default_factory=dict)
    recorded: dict[int, Job] = field(default_factory=dict)

    def run_in_waves(self) -> None:
        """The jobs are held. One wave after the other is released on an empty machine."""
        for wave in sorted({asked.wave for asked in self.asked.values()}):
            jobs = [job for job, asked in self.asked.items() if asked.wave == wave]
            for job in jobs:
                self.client.release(job)
            wait_for(lambda jobs=jobs: all(map(self.ready, jobs)), DEADLINE_S, self.explain)
            self.look(jobs)
            self.frozen |= self.stand_still(jobs)
            self.let_go(jobs)

    def run_as_they_come(self) -> None:
        """The jobs are queued. Whatever runs at one moment is looked at and let go, for as long as something waits."""
        waiting = set(self.asked)
        while waiting:
            jobs = self.some_ready(sorted(waiting))
            self.look(jobs)
            self.let_go(jobs)
            waiting -= set(jobs)

    def look(self, jobs: list[int]) -> None:
        records = [self.client.job(job) for job in jobs]
        together = {record.job: account(self.site, record.execution) for record in records}
        nobody_shares(records, together)
        self.seen |= together
        self.recorded |= {record.job: record for record in records}

    def stand_still(self, jobs: list[int]) -> dict[int, Account]:
        """What the kernel says of them while they are frozen, on CPUs that they keep."""
        for job in jobs:
            self.client.pause(job, Pause(keep_cpus=True))
        wait_for(lambda: {self.client.job(job).state for job in jobs} == {"frozen"}, DEADLINE_S, self.explain)
        found = {job: account(self.site, self.recorded[job].execution) for job in jobs}
        for job in jobs:
            self.client.resume(job)
        wait_for(lambda: {self.client.job(job).state for job in jobs} == {"running"}, DEADLINE_S, self.explain)
        return found

    def let_go(self, jobs: list[int]) -> None:
        for job in jobs:
            os.kill(program(self.site, self.recorded[job].execution, "touch"), signal.SIGUSR1)
        wait_for(lambda: all(self.client.job(job).cleaned for job in jobs), DEADLINE_S, self.explain)

    def ready(self, job: int) -> bool:
        record = self.client.job(job)
        assert not record.final, (record, self.explain())
        output = Path(self.site.settings["state_dir"], "spool", record.execution, "stdout")
        return record.state == "running" and output.exists() and output.read_bytes() == b"ready\n"

    def some_ready(self, jobs: list[int]) -> list[int]:
        wait_for(lambda: any(map(self.ready, jobs)), DEADLINE_S, self.explain)
        return [job for job in jobs if self.ready(job)]

    def explain(self) -> str:
        return "\n".join([*(str(self.client.job(job)) for job in self.asked), self.site.logs()])

    def table(self) -> str:
        rows = [("wave", "job", "asked", "CPUs", "on nodes", "mems", "policy", "pages by node", "charged by node")]
        for job, asked in self.asked.items():
            seen, policies = self.seen[job], "/".join(sorted(self.seen[job].policies))
            nodes = cpuset.render(seen.nodes_of_cpus())
            where = (cpuset.render(seen.cpus), nodes, cpuset.render(seen.mems), policies)
            pages = (by_node(seen.private), by_node(seen.charged))
            rows.append((str(asked.wave), asked.name, asked.words(), *where, *pages))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def nobody_shares(jobs: list[Job], seen: dict[int, Account]) -> None:
    """At one moment no CPU is two jobs', by the kernel's account; parts of shared CPUs add up to at most one."""
    exclusive = Counter(cpu for job in jobs if job.exclusive for cpu in seen[job.job].cpus)
    shared = [(cpu, job.cpus_wanted / len(job.cpus)) for job in jobs if not job.exclusive for cpu in seen[job.job].cpus]
    parts: Counter[int] = Counter()
    for cpu, part in shared:
        parts[cpu] += part  # type: ignore[assignment]
    assert max(exclusive.values(), default=0) <= 1, (exclusive, jobs)
    assert not exclusive.keys() & parts.keys(), (exclusive, parts, jobs)
    assert max(parts.values(), default=0) <= 1, (parts, jobs)


def given_once(journal: str) -> None:
    """By the journal: from `placed` to the end nobody else is placed on an exclusive CPU; in the end none is held."""
    holders: dict[int, int] = {}
    for event in map(json.loads, journal.splitlines()):
        if event["kind"] == "placed" and event["placement"]["exclusive"]:
            taken = {cpu: holders[cpu] for cpu in event["placement"]["cpus"] if cpu in holders}
            assert not taken, (event, taken)
            holders |= dict.fromkeys(event["placement"]["cpus"], event["job"])
        if event["kind"] in ("exited", "start_failed", "lost"):
            holders = {cpu: job for cpu, job in holders.items() if job != event["job"]}
    assert holders == {}
