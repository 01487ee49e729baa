"""One verb on several jobs: all are tried, each outcome is told, the first failure gives the exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from jobs import protocol, render
from jobs.cli.terminal import Live, program, say
from jobs.client import Client
from jobs.errors import JobsError, Unavailable


def each(jobs: Sequence[str], verb: Callable[[str], protocol.Job], then: str = "", apart_s: float = 0.0) -> int:
    """`then` is said while the job has not ended, with {job} and {program}. `apart_s`: between two jobs."""
    status = 0
    bar = Live()
    for number, job in enumerate(jobs):
        if number:
            time.sleep(apart_s)
        if len(jobs) > 1 and bar.on_terminal:
            bar.draw([("", "", _bar(number, len(jobs), job))])
        try:
            found = verb(job)
            bar.clear()
            told(found, then)
        except Unavailable:
            raise
        except JobsError as error:
            bar.clear()
            if len(jobs) == 1:
                raise
            hint = f" ({render.with_program(error.hint, program())})" if error.hint else ""
            say(f"error: {error.message}{hint}")
            status = status or error.exit_code
    return status


def _bar(done: int, of: int, job: str) -> str:
    filled = 30 * done // of
    return f"[{'#' * filled}{'.' * (30 - filled)}] {done} of {of}: job {job}"


def told(job: protocol.Job, then: str = "") -> None:
    remark = f" ({render.remark(job)})" if render.remark(job) and not job.cancelling else ""
    after = f"; {then.format(job=job.written, program=program())}" if then and not job.final else ""
    say(f"job {job.written} is {render.phase(job)}{remark}{after}")


def wait_until(client: Client, job: str, until: protocol.Until) -> protocol.Job:
    """Until it is there or can't get there any more."""
    while True:
        found = client.wait(job, until)
        if protocol.reached(found.state, found.final, bool(found.holds), until):
            return found
