"""Queues, shares and reservations as text for people. Pure: values in, text out."""

from __future__ import annotations

import time

from jobs.protocol_queues import Queue, QueueList, Reservation, ReservationList, Share, ShareList
from jobs.render import Look, plain_table
from jobs.units import render_duration, render_size

_LIMITS = (("total", "in all"), ("per_user", "a user"), ("per_job", "a job"))


def queue_table(found: QueueList, look: Look) -> str:
    rows = [
        [each.name, _state(each), _starts(each, look), str(each.running), str(each.frozen), str(each.waiting),
         str(each.held), f"{each.cpus:g}", f"{each.points:+d}" if each.points else "0", _limits(each)]
        for each in found.queues
    ]  # fmt: skip
    titles = ("QUEUE", "STATE", "STARTS", "RUNNING", "FROZEN", "WAITING", "HELD", "CPUS", "POINTS", "LIMITS")
    return plain_table(titles, rows)


def _state(queue: Queue) -> str:
    return queue.state if queue.yours else f"{queue.state}, not for you"


def _starts(queue: Queue, look: Look) -> str:
    """Whether its jobs start now, and when that changes."""
    if queue.state == "drained":
        return "no: drained"
    if not queue.windows:
        return "yes"
    moment = f"{'until' if queue.open_now else 'from'} {_moment(queue.changes_at, look)}" if queue.changes_at else ""
    return f"{'yes' if queue.open_now else 'no'}{', ' if moment else ''}{moment}"


def _limits(queue: Queue) -> str:
    parts = []
    for key, whose in _LIMITS:
        limit = queue.limits.get(key, {})
        words = []
        if jobs := limit.get("jobs"):
            words.append(f"{jobs:g} job{'' if jobs == 1 else 's'}")
        if cpus := limit.get("cpus"):
            words.append(f"{cpus:g} CPU{'' if cpus == 1 else 's'}")
        if memory := limit.get("memory_bytes"):
            words.append(render_size(memory))
        if key == "per_job" and queue.most_limit_s:
            words.append(render_duration(queue.most_limit_s))
        if words:
            parts.append(f"{whose} {', '.join(words)}")
    return "; ".join(parts)


def share_table(found: ShareList) -> str:
    """Accounts, each with its users below."""
    rows = [
        [each.account if not each.user else "", each.user, f"{each.weight:g}", _cpu_time(each), f"{each.part:.1%}",
         f"{each.due:.1%}", f"{each.points:.1f}" if each.user and found.most_points else ""]
        for each in found.shares
    ]  # fmt: skip
    return plain_table(("ACCOUNT", "USER", "WEIGHT", "CPU TIME", "USED", "DUE", "POINTS"), rows)


def share_note(found: ShareList) -> str:
    """What the numbers mean."""
    if not found.most_points:
        return "fair share is off: share_points = 0 in the policy file"
    fades = f"halved every {render_duration(found.half_life_s)}" if found.half_life_s else "never forgotten"
    if not found.shares:
        return f"nobody has used anything yet; a newcomer has {found.most_points:g} points"
    return f"CPU time is {fades}; a newcomer has {found.most_points:g} points, who had what is due half of them"


def _cpu_time(share: Share) -> str:
    return render_duration(share.cpu_s)


def reservation_table(found: ReservationList, look: Look) -> str:
    rows = [
        [each.name, _when(each, look), render_duration(each.for_s), _again(each), _cpus(each), _users(each),
         each.by or "policy file"]
        for each in found.reservations
    ]  # fmt: skip
    return plain_table(("NAME", "BEGINS", "FOR", "EVERY", "CPUS", "USERS", "BY"), rows)


def reservation_line(each: Reservation, look: Look) -> str:
    again = f", every {_again(each)}" if each.every_s else ""
    return (
        f"reservation {each.name}: {_cpus(each)} from {_moment(each.next_at or each.at, look)} for "
        f"{render_duration(each.for_s)}{again}; for {_users(each)}"
    )


def _when(each: Reservation, look: Look) -> str:
    if not each.next_at:
        return "over"
    return _moment(each.next_at, look) + (", now" if each.now else "")


def _again(each: Reservation) -> str:
    return render_duration(each.every_s) if each.every_s else ""


def _cpus(each: Reservation) -> str:
    return f"{each.cpus} CPU{'' if each.cpus == 1 else 's'}" if each.cpus else "all CPUs"


def _users(each: Reservation) -> str:
    return ", ".join(each.users) or "nobody"


def _moment(at: float, look: Look) -> str:
    """Local time; without the day when it is within a day."""
    near = 0 <= at - look.now < 86400
    return time.strftime("%H:%M" if near else "%Y-%m-%d %H:%M", time.localtime(at))
