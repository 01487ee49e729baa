"""What a policy event does to the policy in force: `advance_policy`, which alone changes it. Pure.

A new file takes nothing back that was done by command: drained queues stay drained, added reservations stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from jobs import events as ev
from jobs.policy import DEFAULT_QUEUE, Policy, Queue, Reservation
from jobs.states import Illegal


def advance_policy(policy: Policy, event: ev.PolicyEvent) -> Policy:
    """The policy after the event. Raises Illegal; the policy given is never changed."""
    match event:
        case ev.PolicyChanged():
            return _merged(policy, event.policy)
        case ev.QueueChanged():
            must_have_queue(policy, event.name)
            queues = (replace(each, state=event.state) if each.name == event.name else each for each in policy.queues)
            return replace(policy, queues=tuple(queues))
        case ev.ReservationAdded():
            return _with_reservation(policy, event.reservation, event.at)
        case ev.ReservationRemoved():
            return _without_reservation(policy, event.name)
    raise Illegal(f"{event.kind}: not known to this version")


def must_have_queue(policy: Policy, name: str) -> Queue:
    """Raises Illegal."""
    for queue in policy.queues:
        if queue.name == name:
            return queue
    raise Illegal(f"no queue {name!r}; there are: {', '.join(queue.name for queue in policy.queues)}")


def must_keep_queues(before: Policy, after: Policy, queues_of_jobs: Iterable[tuple[int, str]]) -> None:
    """A queue goes when its last job has ended. `queues_of_jobs`: (job, queue) of all that have not. Raises Illegal."""
    gone = {queue.name for queue in before.queues} - {queue.name for queue in after.queues}
    if not gone:
        return
    left = sorted((name, job) for job, name in queues_of_jobs if name in gone)
    if left:
        name, first = left[0]
        count = sum(1 for other, _ in left if other == name)
        raise Illegal(
            f"queue {name!r} can't be removed: it has {count} job{'' if count == 1 else 's'} that did not end, first "
            f"{first}; keep it in the policy file, drain it (jobs queue drain {name}) and remove it when they are gone"
        )


def _merged(old: Policy, new: Policy) -> Policy:
    drained = {queue.name for queue in old.queues if queue.state == "drained"}
    given = new.queues if any(queue.name == DEFAULT_QUEUE for queue in new.queues) else (Queue(), *new.queues)
    queues = tuple(replace(queue, state="drained") if queue.name in drained else queue for queue in given)
    in_file = {each.name for each in new.reservations}
    added = tuple(each for each in old.reservations if each.by and each.name not in in_file)
    return replace(new, queues=queues, reservations=(*new.reservations, *added))


def _with_reservation(policy: Policy, new: Reservation, at: float) -> Policy:
    """Those that were added and are over go, so that nobody has to clean up."""
    kept = tuple(each for each in policy.reservations if each.every_s or not each.by or each.at + each.for_s > at)
    if any(each.name == new.name for each in kept):
        raise Illegal(f"there is a reservation {new.name!r}; remove it first, or choose another name")
    return replace(policy, reservations=(*kept, new))


def _without_reservation(policy: Policy, name: str) -> Policy:
    found = [each for each in policy.reservations if each.name == name]
    if not found:
        there = ", ".join(each.name for each in policy.reservations) or "none"
        raise Illegal(f"no reservation {name!r}; there are: {there}")
    if not found[0].by:
        raise Illegal(f"reservation {name!r} is in the policy file; remove it there, then: jobs queue reload")
    return replace(policy, reservations=tuple(each for each in policy.reservations if each.name != name))
