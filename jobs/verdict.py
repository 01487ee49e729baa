"""Why a job does not run now, as data. Derived from a decision, never stored; printing is elsewhere. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One dimension that is short. `unit`: "cpus" | "bytes" | "pages" | "ports" | "jobs" | "" | the name of
    a generic resource.

    `blockers`: jobs that hold what is wanted, at most `MOST_BLOCKERS`, lowest id first; `others`: how many more do.
    """

    dimension: str  # "cpus", "memory", "hugepages:2097152", "generic:gpu", "port:8080/tcp", "jobs", "order"
    wanted: float
    available: float
    unit: str = ""
    blockers: tuple[int, ...] = ()
    detail: str = ""
    others: int = 0

    def __str__(self) -> str:
        behind = f", held by {', '.join(f'job {job}' for job in self.blockers)}" if self.blockers else ""
        what = self.detail or f"{self.dimension}: {self.wanted:g} wanted, {self.available:g} free"
        return what + behind


MOST_BLOCKERS = 8


@dataclass(frozen=True, slots=True)
class NotNow:
    """It fits this host, but not beside what runs (or what waits longer)."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Never:
    """This host could not run it even if it were empty."""

    reason: str


@dataclass(frozen=True, slots=True)
class Going:
    """The decision acts on it now; `verb` is the action's name."""

    verb: str


Verdict = NotNow | Never | Going
