"""A policy file's TOML text → Policy. Daemon only (pydantic). Keys: docs/reference/policy.md.

The stages are those of a spec (jobs/specfile), and so are its errors: all problems at once, with file, line and key.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from pydantic import ValidationError

from jobs import policy, specfile_problems
from jobs.errors import HostError, SpecError
from jobs.policyfile_model import TABLES, Document, JobLimits, Limits, Queue, Reservation
from jobs.specfile import read
from jobs.specfile_problems import Found, Origin
from jobs.units import render_duration


def load(path: str) -> policy.Policy:
    """The policy of the file; the default one where there is none. Raises SpecError or HostError."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read(), file=path)
    except FileNotFoundError:
        return policy.Policy()
    except UnicodeDecodeError as error:
        raise HostError(f"cannot read the policy file {path}: not UTF-8", hint="save it as UTF-8") from error
    except OSError as error:
        raise HostError(
            f"cannot read the policy file {path}: {error.strerror}", hint="the setting policy_file says where it is"
        ) from error


def parse(text: str, *, file: str) -> policy.Policy:
    """Raises SpecError with every problem found."""
    lines, data = read(text, file, what="policy file")
    origin = Origin(file, lines)
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        found = [specfile_problems.of_pydantic(item, data, TABLES) for item in error.errors(include_url=False)]
        raise SpecError(origin.problems(found)) from None
    if found := _rules(document):
        raise SpecError(origin.problems(found))
    return _policy(document)


def _rules(document: Document) -> list[Found]:
    """What holds between keys."""
    found = []
    for name, queue in document.queue.items():
        default, most = queue.default_time_limit or 0.0, queue.most_time_limit or 0.0
        if most and default > most:
            found.append(Found(
                ("queue", name, "default_time_limit"),
                f"{render_duration(default)} is more than most_time_limit, which is {render_duration(most)}",
                "lower it, or raise most_time_limit",
            ))  # fmt: skip
    for name, each in document.reservation.items():
        if each.every is not None and each.every <= each.for_:
            found.append(Found(
                ("reservation", name, "every"),
                f"{render_duration(each.every)} is not longer than for, which is {render_duration(each.for_)}",
                "between two times there must be some without",
            ))  # fmt: skip
    return found


def _policy(document: Document) -> policy.Policy:
    queues = tuple(_queue(name, queue) for name, queue in document.queue.items())
    if policy.DEFAULT_QUEUE not in document.queue:
        queues = (policy.Queue(), *queues)
    shares = []
    for account, share in document.share.items():
        shares.append(policy.Share(account, "", share.weight))
        shares += [policy.Share(account, user, weight) for user, weight in share.users.items()]
    wanted = document.preemption
    return policy.Policy(
        queues=queues,
        shares=tuple(shares),
        reservations=tuple(_reservation(name, each, document.timezone) for name, each in document.reservation.items()),
        backfill=document.backfill,
        backfill_depth=document.backfill_depth,
        share_points=document.share_points,
        half_life_s=document.half_life,
        step_s=document.share_step,
        timezone=document.timezone,
        preemption=policy.Preemption(wanted.margin, wanted.least_run, wanted.most_per_hour),
    )


def _queue(name: str, given: Queue) -> policy.Queue:
    return policy.Queue(
        name=name,
        points=given.points,
        preempt=given.preempt,
        preemptible=given.preemptible,
        total=_limits(given.total),
        per_user=_limits(given.per_user),
        per_job=_limits(given.per_job),
        estimate_s=given.estimate,
        default_limit_s=given.default_time_limit or 0.0,
        most_limit_s=given.most_time_limit or 0.0,
        users=given.users,
        groups=given.groups,
        windows=given.windows,
    )


def _limits(given: JobLimits) -> policy.Limits:
    jobs = given.jobs if isinstance(given, Limits) else None
    return policy.Limits(jobs or 0, given.cpus or 0.0, given.memory or 0)


def _reservation(name: str, given: Reservation, zone: str) -> policy.Reservation:
    at = given.at if given.at.tzinfo else given.at.replace(tzinfo=ZoneInfo(zone))
    return policy.Reservation(name, at.timestamp(), given.for_, given.every or 0.0, given.cpus or 0, given.users)
