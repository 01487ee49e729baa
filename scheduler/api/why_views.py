"""Answers about waiting jobs as the API gives them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from jobs import protocol_blame
from jobs.events import Owner
from jobs.protocol import Blocker, Lack, Remedy, Why
from jobs.record import Record
from jobs.verdict import Going, Never, NotNow, Reason, Verdict
from scheduler.api.access import Access
from scheduler.blame import Blame
from scheduler.explain import Answer


def why_view(answer: Answer, peer: Owner, access: Access, *, past: bool = False) -> Why:
    """Jobs of others are told by their ids; what they are and whose, to operators."""
    record, found = answer.record, answer.explanation
    place = found.placement
    return Why(
        job=record.job,
        name=record.spec.name,
        state=str(record.state),
        at=answer.at,
        verdict=_word(found.verdict),
        lacks=tuple(map(_lack, found.reasons)),
        blockers=tuple(
            _blocker(each, end, access.operates(peer) or each.owner.uid == peer.uid)
            for each, end in zip(answer.blockers, answer.ends, strict=True)
        ),
        ahead=found.ahead,
        start_at=found.start.at,
        start_by=found.start.by,
        start_why=found.start.why,
        open_ended=found.start.open_ended,
        remedies=tuple(Remedy(change.what, change.value, change.freezes) for change in answer.changes),
        cpus=place.cpus if place else (),
        mems=place.mems if place else (),
        notes=answer.notes,
        past=past,
    )


def blame_view(blame: Blame, blockers: Mapping[int, Record], peer: Owner, access: Access) -> protocol_blame.Blame:
    """As of `why_view`: who they are only where the peer may know it."""
    record = blame.record
    known = {job: each for job, each in blockers.items() if access.operates(peer) or each.owner.uid == peer.uid}
    return protocol_blame.Blame(
        job=record.job,
        state=str(record.state),
        until=blame.until,
        waited_s=blame.waited_s,
        name=record.spec.name,
        parts=tuple(
            protocol_blame.BlamePart(
                part.cause,
                part.seconds,
                part.job,
                part.text,
                name=known[part.job].spec.name if part.job in known else "",
                owner=known[part.job].user if part.job in known else "",
            )
            for part in blame.parts
        ),
        notes=blame.notes,
    )


def _word(verdict: Verdict | None) -> str:
    match verdict:
        case Going("Place" | "ThawPlace"):
            return "starts"
        case NotNow():
            return "not now"
        case Never():
            return "never"
    return ""


def _lack(reason: Reason) -> Lack:
    text = str(Reason(reason.dimension, reason.wanted, reason.available, reason.unit, detail=reason.detail))
    return Lack(
        reason.dimension, text, reason.wanted, reason.available, reason.unit, reason.blockers, reason.others
    )


def _blocker(record: Record, end: float, known: bool) -> Blocker:
    return Blocker(
        job=record.job,
        state=str(record.state),
        name=record.spec.name if known else "",
        owner=record.user if known else "",
        ends_at=end,
    )
