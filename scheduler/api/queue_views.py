"""Queues, shares and reservations as the API shows them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jobs import policy as policy_
from jobs import protocol_queues as protocol
from jobs.policy import Policy
from scheduler.fairshare import Standing
from scheduler.priority import POINT_MS
from scheduler.queue_rules import may_use
from scheduler.windows import is_open, next_change


def queue_list(
    policy: Policy, counts: Mapping[str, Any], user: str, groups: Collection[str], now: float
) -> protocol.QueueList:
    queues = [_queue(queue, policy.timezone, counts[queue.name], now, may_use(queue, user, groups))
              for queue in policy.queues]  # fmt: skip
    return protocol.QueueList(tuple(queues), policy.timezone)


def _queue(queue: policy_.Queue, zone: str, count: Any, now: float, yours: bool) -> protocol.Queue:
    return protocol.Queue(
        name=queue.name,
        state=queue.state,
        open_now=queue.state == "open" and is_open(queue.windows, now, zone),
        changes_at=next_change(queue.windows, now, zone) or 0.0 if queue.windows else 0.0,
        yours=yours,
        running=count.running,
        frozen=count.frozen,
        waiting=count.waiting,
        held=count.held,
        cpus=count.cpus,
        points=queue.points,
        preempt=queue.preempt,
        preemptible=queue.preemptible,
        limits={name: asdict(getattr(queue, name)) for name in ("total", "per_user", "per_job")},
        estimate_s=queue.estimate_s,
        default_limit_s=queue.default_limit_s,
        most_limit_s=queue.most_limit_s,
        windows=tuple(policy_.render_window(window) for window in queue.windows),
        users=queue.users,
        groups=queue.groups,
    )


def share_list(policy: Policy, standings: Sequence[Standing], user: str, everybody: bool) -> protocol.ShareList:
    """For who does not operate: their accounts, and themselves in these."""
    yours = {*policy.accounts_of(user), *(each.account for each in standings if each.user == user)}
    seen = [each for each in standings if everybody or each.account in yours]
    rows: list[protocol.Share] = []
    sums: dict[str, Counter[str]] = {}
    for each in seen:
        sums.setdefault(each.account, Counter()).update(cpu_s=each.cpu_s, part=each.part, due=each.due)  # type: ignore[call-overload]
    for account in sorted(sums):
        users = [each for each in seen if each.account == account]
        total = sums[account]
        rows.append(protocol.Share(account, "", users[0].account_weight, total["cpu_s"], total["part"], total["due"]))
        rows += [
            protocol.Share(account, each.user, each.weight, each.cpu_s, each.part, each.due, each.points_ms / POINT_MS)
            for each in users
            if everybody or each.user == user
        ]
    return protocol.ShareList(tuple(rows), policy.half_life_s, policy.share_points)


def reservation_list(policy: Policy, now: float) -> protocol.ReservationList:
    """By the time that is now or comes next; those that are over come last."""
    rows = [_reservation(each, now) for each in policy.reservations]
    return protocol.ReservationList(tuple(sorted(rows, key=lambda row: (not row.next_at, row.next_at, row.name))))


def _reservation(each: policy_.Reservation, now: float) -> protocol.Reservation:
    next_at = each.next_at(now)
    return protocol.Reservation(
        each.name, each.at, each.for_s, each.every_s, each.cpus, each.users, each.by, next_at or 0.0,
        now=next_at is not None and next_at <= now,
    )  # fmt: skip
