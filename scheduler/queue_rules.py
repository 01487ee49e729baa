"""May this user submit this job to that queue, for that account? And what the queue fills in. Pure.

Asked at submission only: a job that waits keeps what it was given when the policy changes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from jobs.policy import Policy, Queue
from jobs.spec import JobSpec
from jobs.units import render_duration, render_size


def refusals(spec: JobSpec, user: str, groups: Collection[str], policy: Policy) -> tuple[str, ...]:
    """One reason for each thing that the policy refuses, each beginning with the spec's key; empty: it may wait."""
    return (*_of_queue(spec, user, groups, policy), *_of_account(spec, user, policy))


def filled(spec: JobSpec, user: str, policy: Policy) -> JobSpec:
    """With its account, and the time limit of its queue where it gives none. Raises KeyError without such a queue."""
    queue = policy.queue(spec.queue)
    account = spec.account or policy.accounts_of(user)[0]
    limit_s = spec.time_limit_s or queue.default_limit_s or queue.most_limit_s
    return replace(spec, account=account, time_limit_s=limit_s)


def may_use(queue: Queue, user: str, groups: Collection[str]) -> bool:
    return not (queue.users or queue.groups) or user in queue.users or not set(groups).isdisjoint(queue.groups)


def _of_queue(spec: JobSpec, user: str, groups: Collection[str], policy: Policy) -> list[str]:
    open_to = ", ".join(queue.name for queue in policy.queues if may_use(queue, user, groups)) or "none"
    try:
        queue = policy.queue(spec.queue)
    except KeyError:
        return [f"queue: there is no queue {spec.queue!r}; open to you: {open_to}"]
    if not may_use(queue, user, groups):
        return [f"queue: {spec.queue!r} is not for {user!r}; open to you: {open_to}"]
    most, wanted, found = queue.per_job, spec.resources, []
    if most.cpus and wanted.cpus > most.cpus:
        found.append(f"resources.cpus: {wanted.cpus:g} are more than queue {queue.name!r} gives a job: {most.cpus:g}")
    if most.memory_bytes and wanted.memory_bytes > most.memory_bytes:
        found.append(
            f"resources.memory: {render_size(wanted.memory_bytes)} is more than queue {queue.name!r} gives a job: "
            f"{render_size(most.memory_bytes)}"
        )
    if queue.most_limit_s and spec.time_limit_s > queue.most_limit_s:
        found.append(
            f"time_limit: {render_duration(spec.time_limit_s)} is more than queue {queue.name!r} gives a job: "
            f"{render_duration(queue.most_limit_s)}"
        )
    return found


def _of_account(spec: JobSpec, user: str, policy: Policy) -> list[str]:
    yours = policy.accounts_of(user)
    if not spec.account or spec.account in yours:
        return []
    return [f"account: {spec.account!r} does not list {user!r}; yours: {', '.join(yours)}"]
