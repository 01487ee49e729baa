"""One thing that a host has, lacks, or has in part: what was seen, what it costs, what mends it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["fatal", "missing", "limited", "unknown", "ok"]
# What a fatal thing stops. The first two refuse to start; without the last they run, and every job fails.
JOBSD, LAUNCHER, JOBS = "jobsd", "launcher", "every job"
_ORDER: tuple[State, ...] = ("fatal", "missing", "limited", "unknown", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """`costs`: what users lose, in their words; `mends`: a command or a setting, "" when nothing can be done here."""

    area: str
    name: str
    state: State
    seen: str  # one line of evidence
    costs: str = ""
    mends: str = ""
    where: str = ""  # path of the evidence
    stops: tuple[str, ...] = ()  # of JOBSD, LAUNCHER, JOBS; only when fatal


def ok(area: str, name: str, seen: str, where: str = "") -> Finding:
    return Finding(area, name, "ok", seen, where=where)


def fatal(findings: Iterable[Finding], *parts: str) -> tuple[Finding, ...]:
    """Those that stop one of `parts` (JOBSD, LAUNCHER, JOBS), or anything."""
    found = (each for each in findings if each.state == "fatal")
    return tuple(each for each in found if not parts or set(parts) & set(each.stops))


def by_weight(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; in the order of the areas among equals."""
    return tuple(sorted(findings, key=lambda each: _ORDER.index(each.state)))
