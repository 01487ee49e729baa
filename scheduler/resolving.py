"""The names and ids in a spec's [depends] → needs: which jobs these are, and what has become of them so far.

Looks things up and decides nothing; the writer asks with its turn's eyes, so that a batch sees itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jobs.errors import UserError
from jobs.events import Owner
from jobs.needs import KINDS, MOST_NEEDS, Need
from jobs.record import Record
from jobs.spec import JobSpec
from scheduler.dependency import Became, became, need_of, needed


class Known(Protocol):
    """Jobs as they are now."""

    async def record(self, job: int) -> Record | None: ...
    async def newest(self, uid: int, name: str) -> Record | None:
        """The user's newest job of that name; tasks of arrays do not count."""

    async def unfinished(self, uid: int, name: str) -> list[int]:
        """The user's jobs of that name that have not ended, oldest first; tasks of arrays do not count."""


class BadNeed(UserError):
    """A job is waited for that is not there, or is none to wait for like this. `key` in [depends], `position` in it."""

    code = "bad-dependency"

    def __init__(self, key: str, position: int, message: str, hint: str = "") -> None:
        super().__init__(f"depends.{key}: {message}", hint=hint)
        self.key, self.position, self.text = key, position, message


@dataclass(frozen=True, slots=True)
class Sibling:
    """A job of the same file, earlier in the order of submission."""

    job: int
    spec: JobSpec


async def resolve(
    spec: JobSpec, owner: Owner, operates: bool, siblings: Mapping[str, Sibling], known: Known
) -> tuple[Need, ...]:
    """In the order of the spec, each job once a kind. Raises BadNeed. `operates`: may see the jobs of others."""
    needs: dict[tuple[str, int], Need] = {}
    for kind in KINDS:
        for position, wanted in enumerate(getattr(spec.depends, kind)):
            sibling = siblings.get(wanted) if isinstance(wanted, str) else None
            if sibling is not None:
                found, need = sibling.spec, Need(kind, sibling.job, sibling.spec.name)
            else:
                record = await _find(wanted, owner, operates, known)
                if record is None:
                    raise BadNeed(kind, position, *_unknown(wanted))
                found, need = record.spec, need_of(kind, record)
            if kind == "aftercorr":
                _must_correspond(spec, found, position)
            needs[kind, need.job] = need
    if spec.depends.singleton:
        for job in await known.unfinished(owner.uid, spec.name):
            needs["singleton", job] = Need("singleton", job, spec.name)
    if len(needs) > MOST_NEEDS:
        raise UserError(f"it would wait for {len(needs)} jobs; at most {MOST_NEEDS}", hint="wait for fewer, later ones")
    return tuple(needs.values())


async def outcomes(records: Sequence[Record], known: Known) -> dict[int, Became]:
    """Of every job that these wait for and that is not among them: what a restart must know."""
    here = {record.job for record in records}
    found = {job: await known.record(job) for job in needed(records) if job not in here}
    return {job: became(record) for job, record in found.items() if record is not None}


async def _find(wanted: int | str, owner: Owner, operates: bool, known: Known) -> Record | None:
    if isinstance(wanted, str):
        return await known.newest(owner.uid, wanted)
    record = await known.record(wanted)
    return record if record is not None and (record.owner.uid == owner.uid or operates) else None


def _unknown(wanted: int | str) -> tuple[str, str]:
    if isinstance(wanted, int):
        return f"no job {wanted}", "see your jobs with: jobs list"
    return f"no job of yours is called {wanted!r}, and none in this file", "see your jobs with: jobs list"


def _must_correspond(spec: JobSpec, found: JobSpec, position: int) -> None:
    wanted = spec.array.ranges if spec.array is not None else None
    if found.array is None or found.array.ranges != wanted:
        is_ = f"has the indexes {found.array}" if found.array is not None else "is no array"
        raise BadNeed("aftercorr", position, f"{found.name!r} {is_}; needs the same indexes as here, {spec.array}")
