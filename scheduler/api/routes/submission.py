"""submit and check: TOML texts → checked specs → one commit."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter

from jobs import protocol
from jobs.errors import Problem as KeyProblem
from jobs.errors import SpecError, UserError
from jobs.events import Owner, Submitted
from jobs.spec import JobSpec, to_json
from scheduler.api.parts import Parts, Peer
from scheduler.ports import NewJob


def router(parts: Parts) -> APIRouter:
    routes = APIRouter(tags=["submission"])

    @routes.post("/v1/jobs", status_code=201, summary="Submit specs; all or nothing")
    async def submit(request: protocol.Submit, peer: Peer) -> protocol.Accepted:
        checked = await _checked(parts, request.specs, peer)
        at = time.time()
        new = [
            NewJob(
                Submitted(
                    job=0,
                    spec=spec,
                    owner=peer,
                    at=at,
                    hold=request.hold,
                    request_id=request.request_id,
                    spec_digest=hashlib.sha256(text.toml.encode()).hexdigest(),
                ),
                text.toml.encode(),
            )
            for text, spec in checked
        ]
        ids = await parts.writer.submit(new)
        return protocol.Accepted(tuple(ids), tuple(spec.name for _, spec in checked))

    @routes.post("/v1/check", summary="Check specs without submitting them")
    async def check(request: protocol.Check, peer: Peer) -> protocol.Checked:
        checked = await _checked(parts, request.specs, peer)
        return protocol.Checked(tuple(to_json(spec) for _, spec in checked), tuple(text.file for text, _ in checked))

    return routes


async def _checked(
    parts: Parts, texts: Sequence[protocol.SpecText], peer: Owner
) -> list[tuple[protocol.SpecText, JobSpec]]:
    """Every spec of every text, in order. Raises SpecError with the problems of all texts, or the refusal of one."""
    parsed: list[tuple[protocol.SpecText, JobSpec]] = []
    problems: list[KeyProblem] = []
    for text in texts:
        try:
            parsed.extend((text, spec) for spec in await _parse(parts, text, peer))
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(tuple(problems))
    for text, spec in parsed:
        try:
            await parts.admit(spec, peer)
        except UserError as error:
            if not isinstance(error, SpecError):
                error.message = f"{text.file}: {error.message}"
            raise
    return parsed


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
