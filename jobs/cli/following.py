"""Follows jobs until they end: their output as it comes, and a line that tells how they do.

Asks again and again instead of holding a stream open: offsets never move, so nothing is lost when the daemon restarts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from jobs import protocol, render
from jobs.cli.terminal import Live, look, program, say
from jobs.client import Client
from jobs.errors import Unavailable

STEP_S = 0.2

Interrupt = Callable[[Client, Sequence[int], int], bool]  # how often it was interrupted → go on following?


def follow(client: Client, jobs: Sequence[int], on_interrupt: Interrupt, *, lasting: bool = True) -> int:
    """The exit status: the job's own; of several the first that is not 0. `lasting`: the daemon can be asked later."""
    live = Live()
    ended = _Interrupts(client, jobs, on_interrupt, live).run(_one if len(jobs) == 1 else _many)
    if ended is None:
        return 130
    for job in ended:
        say(render.outcome(job, look(sys.stderr), hint=lasting))
    return next((status for job in ended if (status := protocol.exit_code(job))), 0)


def detach(client: Client, jobs: Sequence[int], times: int) -> bool:
    """Ctrl-C of `submit --follow`: the job goes on."""
    if len(jobs) == 1:
        say(f"job {jobs[0]} goes on; come back with: {program()} logs -f {jobs[0]}")
    else:
        say(f"the jobs go on; come back with: {program()} wait {' '.join(map(str, jobs))}")
    return False


def cancel(client: Client, jobs: Sequence[int], times: int) -> bool:
    """Ctrl-C of `run`: asks the job to stop; the second time kills it; the third time leaves it alone."""
    if times > 2:
        return detach(client, jobs, times)
    request = protocol.Cancel() if times == 1 else protocol.Cancel("KILL", 0.0)
    for job in jobs:
        client.cancel(job, request)
    say("stopping the job; Ctrl-C again kills it" if times == 1 else "killing the job")
    return True


class _Interrupts:
    """Runs `step` over and over, and turns Ctrl-C into what the command wants of it."""

    def __init__(self, client: Client, jobs: Sequence[int], on_interrupt: Interrupt, live: Live) -> None:
        self.client, self.jobs, self.on_interrupt, self.live = client, jobs, on_interrupt, live
        self.outputs = [_Output(client, jobs[0], stream, live) for stream in ("stdout", "stderr")]

    def run(self, step: Callable[[_Interrupts], list[protocol.Job] | None]) -> list[protocol.Job] | None:
        times = 0
        while True:
            try:
                if (ended := step(self)) is not None:
                    self.live.clear()
                    return ended
            except KeyboardInterrupt:
                times += 1
                self.client.close()
                self.live.clear()
                if not self.on_interrupt(self.client, self.jobs, times):
                    return None


def _one(at: _Interrupts) -> list[protocol.Job] | None:
    job = at.client.wait(at.jobs[0], "final", STEP_S)
    if job.attempt:
        for output in at.outputs:
            output.copy(job.attempt)
    if job.final:
        return [job]
    if all(output.at_line_start for output in at.outputs):
        at.live.draw([(str(job.job), render.phase(job), render.progress(job, look(sys.stderr)))])
    return None


def _many(at: _Interrupts) -> list[protocol.Job] | None:
    jobs = at.client.jobs(id=at.jobs).jobs
    at.live.draw([(str(job.job), render.phase(job), render.progress(job, look(sys.stderr))) for job in jobs])
    running = [job for job in jobs if not job.final]
    if running:
        at.client.wait(running[0].job, "final", STEP_S)
        return None
    return list(jobs)


class _Output:
    """Copies one stream of one job to ours, from where it stopped last time."""

    def __init__(self, client: Client, job: int, stream: protocol.Stream, live: Live) -> None:
        self.client, self.job, self.stream, self.live = client, job, stream, live
        self.offset = 0
        self.attempt = 1
        self.at_line_start = True

    def copy(self, newest: int) -> None:
        """What is new of the attempt that it is at, then of those up to the newest."""
        self._copy()
        while self.attempt < newest:
            self.attempt, self.offset = self.attempt + 1, 0
            self._copy()

    def _copy(self) -> None:
        try:
            start, chunks = self.client.logs(self.job, self.stream, start=self.offset, attempt=self.attempt)
            if start > self.offset:
                self.live.clear()
                say(dropped(start - self.offset))
                self.offset = start
            for data in chunks:
                self._write(data)
        except Unavailable:  # the next question waits for the daemon; nothing is lost
            self.client.close()

    def _write(self, data: bytes) -> None:
        target = sys.stdout.buffer if self.stream == "stdout" else sys.stderr.buffer
        self.live.clear()
        target.write(data)
        target.flush()
        self.offset += len(data)
        self.at_line_start = data.endswith(b"\n")


def over(job: protocol.Job, attempt: int) -> bool:
    """Whether nothing more comes of this attempt, or it will never be."""
    waits = job.state in ("queued", "held")
    return job.final or job.attempt > attempt or (job.attempt == attempt and waits)


def dropped(size: int) -> str:
    from jobs.units import render_size

    return f"[{render_size(size)} of older output are no longer kept]"
