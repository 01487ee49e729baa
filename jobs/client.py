"""The daemon's API as methods: a verb here is a route there. Blocking; imports nothing heavy (measured by a test).

A call that may be repeated is repeated when the daemon restarts meanwhile: up to `patience_s` seconds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from jobs import errors, protocol, protocol_blame, protocol_queues
from jobs.unix_http import Connection, HungUp, Response

if TYPE_CHECKING:
    from jobs.inspection import Snapshot

REPLAY_S = 300.0  # an answer about the past may take so long on a busy host

T = TypeVar("T")


class Refused(errors.JobsError):
    """The daemon's answer to a request that it did not carry out. A `code` that jobs.errors does not have (an upper
    layer's, a later version's) is blamed as its HTTP status says."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        kind = _by_code(errors.JobsError, code) or (errors.UserError if 400 <= status < 500 else errors.HostError)
        self.code, self.exit_code = code, kind.exit_code


class Client:
    """`patience_s`: how long to wait for a daemon that was there and went away. `on_wait` is called once per wait."""

    def __init__(self, path: str, *, patience_s: float = 0.0, on_wait: Callable[[], None] = lambda: None) -> None:
        self.path, self.patience_s, self.on_wait = path, patience_s, on_wait
        self._connection: Connection | None = None
        self._met = False  # it was there once; before that a missing daemon is reported at once

    # --- verbs ------------------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[protocol.SpecText], *, hold: bool = False) -> protocol.Accepted:
        request = protocol.Submit(tuple(specs), os.urandom(16).hex(), hold)
        # Repeated when the answer got lost: the request id makes it one submission.
        return protocol.decode(protocol.Accepted, self._patiently(lambda: self.call("POST", "/v1/jobs", request)))

    def check(self, specs: Sequence[protocol.SpecText]) -> protocol.Checked:
        return protocol.decode(protocol.Checked, self.call("POST", "/v1/check", protocol.Check(tuple(specs))))

    def jobs(self, **filters: Any) -> protocol.JobList:
        """`state`, `id` (sequences), `newest`, `everyone`."""
        query = urlencode({key: value for key, value in filters.items() if value}, doseq=True)
        return protocol.decode_jobs(self._patiently(lambda: self.call("GET", f"/v1/jobs?{query}")))

    def job(self, job: str | int) -> protocol.Job:
        return self._job(lambda: self.call("GET", f"/v1/jobs/{_part(job)}"))

    def why(self, job: str | int, at: float | None = None) -> protocol.Why:
        """`at`: as it was then, wall clock."""
        target = f"/v1/jobs/{_part(job)}/why" + ("" if at is None else f"?at={at:.6f}")
        return protocol.decode_why(self._patiently(lambda: self.call("GET", target, timeout_s=REPLAY_S)))

    def blame(self, job: str | int) -> protocol_blame.Blame:
        target = f"/v1/jobs/{_part(job)}/blame"
        return protocol_blame.decode_blame(self._patiently(lambda: self.call("GET", target, timeout_s=REPLAY_S)))

    def inspect(self, job: str | int) -> Snapshot:
        """Its processes now. Raises Refused for a job that has none."""
        from jobs.inspection import Snapshot, from_json

        return from_json(Snapshot, self.call("GET", f"/v1/jobs/{_part(job)}/inspect", timeout_s=120))

    def what_if(self, job: str | int, request: protocol.WhatIf) -> protocol.Why:
        return protocol.decode_why(self.call("POST", f"/v1/jobs/{_part(job)}/whatif", request))

    def wait(self, job: str | int, until: protocol.Until = "final", timeout_s: float = 30.0) -> protocol.Job:
        """The job when it is there, or as it is after `timeout_s`."""
        target = f"/v1/jobs/{_part(job)}/wait?until={until}&timeout_s={timeout_s:.3f}"
        return self._job(lambda: self.call("GET", target, timeout_s=timeout_s + 30))

    def cancel(self, job: str | int, request: protocol.Cancel) -> protocol.Job:
        return self._steer(job, "cancel", request)

    def pause(self, job: str | int, request: protocol.Pause) -> protocol.Job:
        return self._steer(job, "pause", request)

    def resume(self, job: str | int) -> protocol.Job:
        return self._steer(job, "resume")

    def hold(self, job: str | int) -> protocol.Job:
        return self._steer(job, "hold")

    def release(self, job: str | int) -> protocol.Job:
        return self._steer(job, "release")

    def priority(self, job: str | int, request: protocol.Priority) -> protocol.Job:
        return self._steer(job, "priority", request)

    def exec(self, job: str | int, request: protocol.Exec) -> protocol.Ticket:
        return protocol.decode(protocol.Ticket, self.call("POST", f"/v1/jobs/{_part(job)}/exec", request))

    def logs(
        self, job: str | int, stream: protocol.Stream, *, start: int = 0, tail: int = 0, follow: bool = False,
        attempt: int = 0,
    ) -> tuple[int, Iterator[bytes]]:  # fmt: skip
        """(offset of the first byte, the bytes to be read whole). More than `start` when older output was dropped.
        `attempt` 0 is the newest."""
        query = urlencode({"from": start, "tail": tail, "follow": str(follow).lower(), "attempt": attempt})
        response = self._stream(f"/v1/jobs/{_part(job)}/logs/{stream}?{query}", follow)
        return int(response.headers.get("x-log-from", start)), response.chunks

    def events(self, *, after: int = 0, job: str | int | None = None, follow: bool = False) -> Iterator[bytes]:
        """JSON lines, in pieces as they come."""
        query = urlencode({"after": after, "follow": str(follow).lower(), **({} if job is None else {"job": job})})
        return self._stream(f"/v1/events?{query}", follow).chunks

    def head(self) -> protocol.Head:
        return protocol.decode(protocol.Head, self.call("GET", "/v1/head"))

    def wait_until_back(self) -> None:
        """After an Unavailable that came while something was followed."""
        self.close()
        self._patiently(self.head)

    def host(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", "/v1/host")
        return found

    def machine(self) -> protocol.Machine:
        return protocol.decode_machine(self.call("GET", "/v1/topology"))

    def images(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", "/v1/images")
        return found

    def import_image(self, request: protocol.ImportImage) -> dict[str, Any]:
        found: dict[str, Any] = self.call("POST", "/v1/images", request, timeout_s=None)
        return found

    def remove_image(self, name: str) -> None:
        self.call("DELETE", f"/v1/images/{_part(name)}")

    def queues(self) -> protocol_queues.QueueList:
        return protocol_queues.decode_queues(self._patiently(lambda: self.call("GET", "/v1/queues")))

    def set_queue(self, name: str, verb: Literal["drain", "open"]) -> protocol_queues.QueueList:
        return protocol_queues.decode_queues(self.call("POST", f"/v1/queues/{_part(name)}/{verb}"))

    def reload_policy(self) -> protocol_queues.Reloaded:
        return protocol.decode(protocol_queues.Reloaded, self.call("POST", "/v1/policy/reload"))

    def shares(self) -> protocol_queues.ShareList:
        return protocol_queues.decode_shares(self._patiently(lambda: self.call("GET", "/v1/shares")))

    def reservations(self) -> protocol_queues.ReservationList:
        return protocol_queues.decode_reservations(self._patiently(lambda: self.call("GET", "/v1/reservations")))

    def reserve(self, request: protocol_queues.Reserve) -> protocol_queues.ReservationList:
        return protocol_queues.decode_reservations(self.call("POST", "/v1/reservations", request))

    def remove_reservation(self, name: str) -> None:
        self.call("DELETE", f"/v1/reservations/{_part(name)}")

    # --- one request ------------------------------------------------------------------------------------------------

    def call(self, method: str, target: str, request: Any = None, *, timeout_s: float | None = 60.0) -> Any:
        """The parsed JSON of a 2xx answer. Raises what the daemon answered, or Unavailable."""
        body = b"" if request is None else json.dumps(asdict(request)).encode()
        data = self._send(method, target, body, timeout_s=timeout_s).read()
        return json.loads(data) if data else None

    def connect(self) -> None:
        """Now instead of at the first call: the daemon takes the user who connects for the one who asks."""
        self._connection = self._connection or Connection(self.path)
        self._met = True

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _send(self, method: str, target: str, body: bytes = b"", *, timeout_s: float | None) -> Response:
        try:
            response = self._try(method, target, body, timeout_s)
        except BaseException:  # an interrupt too: half an answer must not be taken for the next one's start
            self.close()
            raise
        if response.status >= 400:
            raise _error(response.status, response.read())
        return response

    def _stream(self, target: str, follow: bool) -> Response:
        """What is followed gets a connection of its own: other calls may be made meanwhile, or it is left half read."""
        response = self._send("GET", target, timeout_s=None if follow else 60)
        if follow:
            self._connection = None
        return response

    def _try(self, method: str, target: str, body: bytes, timeout_s: float | None) -> Response:
        self.connect()
        connection = self._connection
        assert connection is not None
        try:
            return connection.request(method, target, body, timeout_s=timeout_s)
        except HungUp as error:
            if error.answered or not connection.used > 1:
                raise
        # An idle connection that the daemon had closed: the request was not read.
        self.close()
        self._connection = Connection(self.path)
        return self._connection.request(method, target, body, timeout_s=timeout_s)

    def _patiently(self, attempt: Callable[[], T]) -> T:
        deadline, pause_s = time.monotonic() + self.patience_s, 0.1
        told = False
        while True:
            try:
                return attempt()
            except errors.Unavailable:
                self.close()
                if not self._met or time.monotonic() + pause_s > deadline:
                    raise
                if not told:
                    self.on_wait()
                    told = True
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)

    def _steer(self, job: str | int, verb: str, request: Any = None) -> protocol.Job:
        return protocol.decode(protocol.Job, self.call("POST", f"/v1/jobs/{_part(job)}/{verb}", request))

    def _job(self, attempt: Callable[[], Any]) -> protocol.Job:
        return protocol.decode(protocol.Job, self._patiently(attempt))


def _part(text: str | int) -> str:
    """One part of a path, whatever the user typed. Raises UserError for what no id or name can be."""
    if "/" in str(text):
        raise errors.UserError(f"no such id or name: {text!r}", hint="ids are numbers; names have no '/'")
    return quote(str(text), safe="") or "%00"


def _error(status: int, data: bytes) -> errors.JobsError:
    try:
        failure = json.loads(data)
        problems = tuple(errors.Problem(**problem) for problem in failure["problems"])
        if failure["code"] == errors.SpecError.code:
            return errors.SpecError(problems)
        return Refused(status, failure["code"], failure["message"], failure["hint"])
    except (ValueError, KeyError, TypeError):
        return errors.JobsError(f"the daemon answered {status} and nothing that can be understood",
                                hint="are jobs and jobsd of the same version?")  # fmt: skip


def _by_code(kind: type[errors.JobsError], code: str) -> type[errors.JobsError] | None:
    if kind.code == code:
        return kind
    return next((found for below in kind.__subclasses__() if (found := _by_code(below, code))), None)
