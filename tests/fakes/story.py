"""A life that is kept as the entries of a journal, and what is made of them afterwards."""

from __future__ import annotations

from typing import Any

from jobs import events as ev
from jobs.policy import Policy
from scheduler.blame import Blaming
from scheduler.decide import DECIDE_VERSION
from scheduler.past import Past
from tests.builders import GIB, a_capacity, a_host
from tests.fakes.simulation import Simulation

HOST = {"cpus_per_node": 4, "memory_per_node": 8 * GIB}


def daemon_started(at: float, **host: Any) -> ev.DaemonStarted:
    return ev.DaemonStarted(0, "0.1.0", DECIDE_VERSION, a_host(**{**HOST, **host}), 0, 1000, "test", at)


class Story(Simulation):
    """Keeps what happened as entries of a journal: (time, events)."""

    def __init__(self, policy: Policy | None = None, *, now: float = 1000.0) -> None:
        super().__init__(a_capacity(**HOST), policy, now=now)
        started = daemon_started(self.now)
        self.journal: list[tuple[float, list[ev.Event]]] = [(self.now, [started])]
        if policy is not None:
            self.journal.append((self.now, [ev.PolicyChanged(0, policy, self.now)]))

    def happen(self, event: ev.Event) -> bool:
        happened = super().happen(event)
        if happened:
            self.journal.append((self.now, [event]))
        return happened

    def change(self, event: ev.PolicyEvent) -> None:
        self.world.change_policy(event)
        self.journal.append((self.now, [event]))

    def go_on(self, seconds: float = 0.0) -> None:
        """Time passes, then a round, and the node does what it is told."""
        self.tick(seconds)
        self.round()
        self.settle()

    def ends(self, job: int) -> None:
        self.report(job, "exited")
        self.report(job, "cleaned")

    def past(self, until: float) -> Past:
        past = Past()
        for at, events in self.journal:
            if at <= until:
                past.happen(at, events)
        return past

    def blame(self, job: int, *, every: int = 1) -> Blaming:
        past = Past()
        blaming = Blaming(past, job, every=every, _since=self.records[job].submitted_at)
        for at, events in self.journal:
            blaming.until(at)
            past.happen(at, events)
            restarted = any(isinstance(event, ev.DaemonStarted) for event in events)
            blaming.entry(at, own=any(event.job == job for event in events), restarted=restarted)
        blaming.finish(self.now)
        return blaming

    def told(self, job: int, **how: Any) -> dict[tuple[str, int], float]:
        return {(part.cause, part.job): part.seconds for part in self.blame(job, **how).parts()}
