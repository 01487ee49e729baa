"""From facts to findings: what this host has, lacks, and what that means to its users. Pure.

One table of areas, in the order in which a reader wants them. `jobs doctor` and the starts of daemon and launcher go
through here, so a refusal is the same text everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from scheduler.doctor.facts import Facts
from scheduler.doctor.files import files
from scheduler.doctor.finding import Finding, by_weight
from scheduler.doctor.groups import cgroups, freezer, memory
from scheduler.doctor.kernel import kernel, namespaces, privileges
from scheduler.doctor.machine import limits, machine, programs
from scheduler.doctor.network import network
from scheduler.doctor.protection import protection

if TYPE_CHECKING:
    from config.settings import Settings

AREAS: tuple[Callable[[Facts, Settings], Iterator[Finding]], ...] = (
    privileges, kernel, namespaces, cgroups, freezer, memory, files, network, protection, programs, machine, limits,
)  # fmt: skip


def diagnose(facts: Facts, settings: Settings) -> tuple[Finding, ...]:
    """Every area's findings, the worst first."""
    return by_weight(finding for area in AREAS for finding in area(facts, settings))
