"""submit and check: TOML texts → checked specs → one commit."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter

from jobs import protocol
from jobs.errors import Problem as KeyProblem
from jobs.errors import SpecError, UserError
from jobs.events import Owner, Submitted
from jobs.spec import Depends, JobSpec, to_json
from jobs.specfile_jobs import names_of, place_of
from scheduler.api.parts import Parts, Peer
from scheduler.ports import NewJob
from scheduler.resolving import BadNeed, Sibling, resolve

NO_NEEDS = Depends()


def router(parts: Parts) -> APIRouter:
    routes = APIRouter(tags=["submission"])

    @routes.post("/v1/jobs", status_code=201, summary="Submit specs; all or nothing")
    async def submit(request: protocol.Submit, peer: Peer) -> protocol.Accepted:
        checked = await _checked(parts, request.specs, peer)
        at, operates = time.time(), parts.access.operates(peer)
        digests = [hashlib.sha256(text.toml.encode()).hexdigest() for text in request.specs]
        new = [
            NewJob(
                Submitted(
                    job=0,
                    spec=each.spec,
                    owner=peer,
                    at=at,
                    hold=request.hold,
                    request_id=request.request_id,
                    spec_digest=digests[each.text],
                ),
                request.specs[each.text].toml.encode(),
                each.siblings,
                operates,
            )
            for each in checked
        ]
        ids = await parts.writer.submit(new)
        return protocol.Accepted(
            tuple(ids),
            tuple(each.spec.name for each in checked),
            tuple(each.spec.array.size if each.spec.array is not None else 0 for each in checked),
        )

    @routes.post("/v1/check", summary="Check specs without submitting them")
    async def check(request: protocol.Check, peer: Peer) -> protocol.Checked:
        checked = await _checked(parts, request.specs, peer)
        files = tuple(request.specs[each.text].file for each in checked)
        return protocol.Checked(tuple(to_json(each.spec) for each in checked), files)

    return routes


@dataclass(frozen=True, slots=True)
class _Checked:
    """A job of the text of this number. `siblings`: earlier jobs of the same text that it waits for, by name."""

    text: int
    spec: JobSpec
    siblings: tuple[tuple[str, int], ...] = ()


async def _checked(parts: Parts, texts: Sequence[protocol.SpecText], peer: Owner) -> list[_Checked]:
    """Every spec of every text, in order. Raises SpecError with the problems of all texts, or the refusal of one."""
    checked: list[_Checked] = []
    problems: list[KeyProblem] = []
    for number, text in enumerate(texts):
        here: dict[str, int] = {}
        try:
            for spec in await _parse(parts, text, peer):
                wanted = {name for _, _, name in names_of(spec.depends)} if here else set()
                siblings = tuple((name, here[name]) for name in sorted(wanted & here.keys()))
                here[spec.name] = len(checked)
                checked.append(_Checked(number, spec, siblings))
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(tuple(problems))
    for number, each in enumerate(checked):
        try:
            checked[number] = replace(each, spec=await parts.admit(each.spec, peer))
        except UserError as error:
            if not isinstance(error, SpecError):
                error.message = f"{texts[each.text].file}: {error.message}"
            raise
        problems += await _waits_for_nobody(parts, checked, each, texts[each.text], peer)
    if problems:
        raise SpecError(tuple(problems))
    return checked


async def _waits_for_nobody(
    parts: Parts, checked: Sequence[_Checked], each: _Checked, text: protocol.SpecText, peer: Owner
) -> list[KeyProblem]:
    """The first job in [depends] that is not there, or none to wait for like this, with its line."""
    if each.spec.depends == NO_NEEDS:
        return []
    siblings = {name: Sibling(0, checked[position].spec) for name, position in each.siblings}
    try:
        await resolve(each.spec, peer, parts.access.operates(peer), siblings, parts.reader)
    except BadNeed as error:
        line, key = await run_sync(place_of, text.toml, each.spec.name, ("depends", error.key, error.position))
        return [KeyProblem(text.file, line, key, error.text, error.hint)]
    return []


_turns: dict[int, CapacityLimiter] = {}  # by uid: one text of a user at a time, so that nobody waits for another's


async def _parse(parts: Parts, text: protocol.SpecText, peer: Owner) -> tuple[JobSpec, ...]:
    turn = _turns.setdefault(peer.uid, CapacityLimiter(1))
    return await run_sync(
        lambda: parts.parse(
            text.toml,
            file=text.file,
            folder=text.folder,
            submitted_from=text.submitted_from,
            sets=text.sets,
            owner=peer,
        ),
        limiter=turn,
    )
