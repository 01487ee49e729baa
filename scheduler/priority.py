"""Who comes first: one integer per job, from urgency and age. Pure.

Age is uncapped and grows for all jobs alike, so the order of two waiting jobs never changes by time passing, and
nobody starves: each point of urgency is worth POINT_MS of waiting.
"""

from __future__ import annotations

from jobs.record import Record

POINT_MS = 3_600_000  # one hour; urgency 100 goes before whatever was submitted in the last 100 hours at urgency 0


def priority(record: Record) -> int:
    """Larger first. Depends on the record only, never on the time."""
    return record.urgency * POINT_MS - round(record.submitted_at * 1000)


def order_key(record: Record) -> tuple[int, int]:
    """Sorts by priority, then by submit order."""
    return -priority(record), record.job
