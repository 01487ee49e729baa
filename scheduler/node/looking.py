"""A look at what runs of a job, from outside, frozen or not. Reads only; it blocks, so it is called in a thread."""

from __future__ import annotations

import time
from dataclasses import asdict

from jobs.inspection import Snapshot
from jobs.record import Record
from runtime.cgroups.group import JobGroup
from runtime.inspection.capture import Capture
from runtime.inspection.waits import circles, waits_of


def look_at(record: Record, group: JobGroup, *, environment: bool) -> Snapshot:
    """`environment`: with the variables of each process."""
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
