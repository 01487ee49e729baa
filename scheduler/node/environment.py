"""What a job is told about itself, as environment variables; docs/reference/environment.md lists them. Pure."""

from __future__ import annotations

from jobs.record import Record


def environment_of(record: Record) -> tuple[tuple[str, str], ...]:
    """Of the attempt that the record is at; JOBS_ID and JOBS_EXECUTION are the plan's. The spec's own `env` wins."""
    wanted = record.wanted
    return (
        ("JOBS_NAME", wanted.name),
        ("JOBS_QUEUE", wanted.queue),
        ("JOBS_ATTEMPT", str(record.attempt)),
        ("JOBS_RETRIES", str(record.retries)),
        ("JOBS_CHECKPOINTS", str(record.checkpoints)),
        ("JOBS_CPUS", f"{wanted.resources.cpus:g}"),
        ("JOBS_MEMORY_BYTES", str(wanted.resources.memory_bytes)),
    )
