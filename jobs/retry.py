"""Whether a job that failed, or asked for it by its exit status, is tried again: when, and with how much memory. Pure.

All of it follows from record and event, so a replay of the journal decides the same.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from jobs import events as ev
from jobs.record import Record
from jobs.spec import Retry
from jobs.units import render_duration, render_size

LARGEST_SIGNAL = 64  # SIGRTMAX
STAGGER = 0.25  # most of a pause that is taken off, by job: what failed together does not come back together


def after(record: Record, event: ev.Exited | ev.StartFailed) -> tuple[Record, bool]:
    """The record with this end counted, and whether the job is tried again. `reason` says why, or why not."""
    if record.cancel is not None or (isinstance(event, ev.Exited) and event.cause not in ("", "oom")):
        return record, False
    policy = record.spec.retry
    short = isinstance(event, ev.StartFailed) or event.ran_s < policy.crash_within_s
    record = replace(record, crashes=record.crashes + 1 if short else 0)
    checkpoint = _is_checkpoint(record, event)
    if not checkpoint and not (policy.most and wants(policy, event)):
        return record, False
    if policy.crash_limit and record.crashes >= policy.crash_limit:
        within = render_duration(policy.crash_within_s)
        return _over(record, f"{record.crashes} attempts in a row took less than {within} each")
    if checkpoint:
        count = record.checkpoints + 1
        said = f"checkpoint {count}, by {_what(event)}"
        return replace(record, checkpoints=count, not_before=0.0, reason=said), True
    return _retried(record, event)


def _is_checkpoint(record: Record, event: ev.Exited | ev.StartFailed) -> bool:
    code = record.spec.checkpoint_exit_code
    return bool(code) and isinstance(event, ev.Exited) and event.status == code and not event.cause


def _retried(record: Record, event: ev.Exited | ev.StartFailed) -> tuple[Record, bool]:
    policy, number = record.spec.retry, record.retries + 1
    if number > policy.most:
        return _over(record, f"no retry is left of {policy.most}")
    memory = record.memory_bytes
    if isinstance(event, ev.Exited) and event.cause == "oom" and policy.memory_factor > 1:
        had = record.wanted.resources.memory_bytes
        if had >= policy.memory_most_bytes:
            return _over(record, f"it already had {render_size(had)}, the most that retry.memory_most allows")
        memory = min(policy.memory_most_bytes, int(had * policy.memory_factor))
    not_before = event.at + pause_s(policy, number, record.job)
    if record.deadline_at and not_before > record.latest_start_at:
        return _over(record, "no time is left before its deadline")
    said = f"retry {number} of {policy.most}, after {_what(event)}"
    return replace(record, retries=number, not_before=not_before, memory_bytes=memory, reason=said), True


def _over(record: Record, why: str) -> tuple[Record, bool]:
    reason = f"{record.reason}; " if record.reason else ""
    return replace(record, reason=f"{reason}not tried again: {why}"), False


def wants(policy: Retry, event: ev.Exited | ev.StartFailed) -> bool:
    """Whether the policy names this end. A status above 128 is a signal's, as shells count."""
    if isinstance(event, ev.StartFailed):
        return "start" in policy.on
    if event.cause or event.status == 0:
        return event.cause == "oom" and "oom" in policy.on
    if event.status in policy.on:
        return True
    number = event.status - 128
    if 0 < number <= LARGEST_SIGNAL:
        return "signal" in policy.on or _signal(number) in policy.on
    return "exit" in policy.on


def pause_s(policy: Retry, number: int, job: int) -> float:
    """Before retry `number` (from 1): longer each time, at most `backoff_most_s`, a little shorter by job."""
    full = min(policy.backoff_most_s, policy.backoff_s * policy.factor ** min(number - 1, 64))
    scattered = (job * 2654435761 + number * 40503) % (1 << 32) / (1 << 32)  # Knuth's multiplicative hash, 0 … 1
    return full * (1 - STAGGER * scattered)


def _what(event: ev.Exited | ev.StartFailed) -> str:
    if isinstance(event, ev.StartFailed):
        return event.message
    if event.cause == "oom":
        return "running out of memory"
    number = event.status - 128
    return f"signal {_signal(number)}" if 0 < number <= LARGEST_SIGNAL else f"exit status {event.status}"


def _signal(number: int) -> str:
    """ "SEGV"; the number for one that has no name."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
