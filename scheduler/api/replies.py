"""Every error as one JSON shape: {code, message, hint, problems}. Nothing of ours (paths of code, traces) leaves."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from jobs.errors import Bug, JobsError, SpecError, UserError
from jobs.protocol import Failure, Problem

log = logging.getLogger("jobs.api")


def failure(error: JobsError) -> Failure:
    found = error.problems if isinstance(error, SpecError) else ()
    problems = tuple(Problem(p.file, p.line, p.key, p.message, p.hint) for p in found)
    return Failure(error.code, error.message, error.hint, problems)


def reply(status: int, body: Failure) -> JSONResponse:
    return JSONResponse(asdict(body), status_code=status)


def raw_reply(status: int, body: Failure) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two ASGI messages of a reply, for a middleware."""
    data = json.dumps(asdict(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    return (
        {"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]},
        {"type": "http.response.body", "body": data},
    )


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(JobsError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, JobsError)
    if isinstance(error, Bug):
        log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    return reply(error.status, failure(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The values given are not repeated: they may be secrets."""
    assert isinstance(error, RequestValidationError)
    problems = []
    for item in error.errors()[:20]:
        key = ".".join(str(part) for part in item["loc"][1:])
        problems.append(Problem(key=key, message=item["msg"].removeprefix("Value error, ")))
    text = "; ".join(f"{p.key}: {p.message}" if p.key else p.message for p in problems)
    return reply(400, Failure(UserError.code, f"bad request: {text}", "", tuple(problems)))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    messages = {404: "no such resource", 405: "no such method here"}
    hint = "the API is described by /v1/openapi.json; are jobs and jobsd of the same version?"
    text = messages.get(error.status_code, str(error.detail).lower())
    return reply(error.status_code, Failure(UserError.code, text, hint))


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return reply(500, Failure(Bug.code, "the daemon met a bug of its own", "its log says more: journalctl -u jobsd"))
