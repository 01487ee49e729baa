"""How long an execution has run: frozen time does not count. Pure: monotonic seconds come in as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RunClock:
    """`ran_s` up to `since`, which is None while the execution stands still."""

    ran_s: float = 0.0
    since: float | None = None

    def start(self, now: float) -> None:
        if self.since is None:
            self.since = now

    def stop(self, now: float) -> None:
        self.ran_s, self.since = self.total(now), None

    def total(self, now: float) -> float:
        return self.ran_s + (max(0.0, now - self.since) if self.since is not None else 0.0)
