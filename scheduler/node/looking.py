"""A look at what runs of a job, from outside, frozen or not. Nothing in the job is stopped, waked or changed."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial

from anyio.to_thread import run_sync

from jobs.errors import JobsError
from jobs.inspection import Snapshot
from jobs.record import Record
from runtime.cgroups.group import JobGroup
from runtime.helper import HelperRunner
from runtime.inspection import python
from runtime.inspection.capture import Capture
from runtime.inspection.waits import circles, waits_of


async def look_at(record: Record, group: JobGroup, helper: HelperRunner, *, environment: bool) -> Snapshot:
    """`environment`: with the variables of each process."""
    seen = await run_sync(partial(_through_proc, record, group, environment=environment))
    processes, missing = list(seen.processes), list(seen.missing)
    snakes = [number for number, process in enumerate(processes) if python.is_python(process)]
    if len(snakes) > python.MOST_PROCESSES:
        missing.append(f"stacks of {len(snakes) - python.MOST_PROCESSES} Python processes: too many to show")
    for number in snakes[: python.MOST_PROCESSES]:
        try:
            processes[number] = await python.with_stacks(processes[number], helper)
        except (ValueError, JobsError) as error:
            missing.append(f"Python stacks of process {processes[number].pid}: {error}")
    return replace(seen, processes=tuple(processes), missing=tuple(missing))


def _through_proc(record: Record, group: JobGroup, *, environment: bool) -> Snapshot:
    """It blocks."""
    capture = Capture(group.pids(), environment=environment)
    processes = capture.processes()
    waits = waits_of(processes)
    missing = list(capture.missing)
    if not environment:
        missing.append("environment: only the owner of a job sees it")
    return Snapshot(
        job=record.written,
        name=record.spec.name,
        state=str(record.state),
        at=time.time(),
        frozen_by=record.freezer if group.freezer.is_frozen() else "",
        processes=processes,
        waits=waits,
        circles=circles(waits, processes),
        counters=asdict(group.usage()),
        missing=tuple(missing),
    )
