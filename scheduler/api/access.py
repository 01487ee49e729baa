"""Who may do what: the whole of the authorisation, as functions of values. Pure.

A user sees and steers their own jobs. uid 0 and members of the operators' group see and steer all.
Another user's job and no job look the same to everybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jobs.errors import NoSuchJob, NotAllowed
from jobs.events import Event, Owner, Submitted
from jobs.record import Record

By = Literal["owner", "operator"]


@dataclass(frozen=True, slots=True)
class Access:
    """`operators_gid` is None where the host has no such group: then uid 0 alone operates."""

    operators_gid: int | None = None

    def operates(self, peer: Owner) -> bool:
        if peer.uid == 0:
            return True
        return self.operators_gid is not None and self.operators_gid in (peer.gid, *peer.groups)

    def see(self, peer: Owner, job: int, record: Record | None) -> Record:
        """The record, if the peer may know of it. Raises NoSuchJob."""
        if record is None or not (record.owner.uid == peer.uid or self.operates(peer)):
            raise no_such_job(job)
        return record

    def steers_as(self, peer: Owner, record: Record) -> By:
        """In whose name a pause or a cancel is noted. Raises NoSuchJob."""
        self.see(peer, record.job, record)
        return "owner" if record.owner.uid == peer.uid else "operator"

    def lifts_as(self, peer: Owner, record: Record) -> By:
        """In whose name holds are lifted: an operator lifts every hold, of their own jobs too. Raises NoSuchJob."""
        self.see(peer, record.job, record)
        return "operator" if self.operates(peer) else "owner"

    def must_operate(self, peer: Owner, what: str) -> None:
        """Raises NotAllowed."""
        if not self.operates(peer):
            raise NotAllowed(f"{what} is for operators", hint="ask root, or a member of the operators' group")

    def sees_event(self, peer: Owner, event: Event, owners: Mapping[int, int]) -> bool:
        """`owners`: job → uid, for events that do not say it themselves."""
        uid = event.owner.uid if isinstance(event, Submitted) else owners.get(event.job)
        return uid == peer.uid or self.operates(peer)


def no_such_job(job: Any) -> NoSuchJob:
    return NoSuchJob(f"no job {job}", hint="see your jobs with: jobs list")
