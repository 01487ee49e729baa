"""Answers to `why` and `whatif` as text for people. Pure: values in, text out."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jobs import cpuset
from jobs.protocol import Blocker, Lack, Remedy, Why
from jobs.render import Look, printable
from jobs.units import render_duration

MOST_NAMED = 4  # blockers told in a line


def page(why: Why, look: Look, *, supposed: bool = False) -> str:
    """`supposed`: of a job that asks for something else."""
    name = f" ({printable(why.name)})" if why.name else ""
    then = time.strftime(" at %Y-%m-%d %H:%M:%S", time.localtime(why.at)) if why.past else ""
    lines = [look.bold(f"job {why.job}{name} {_headline(why, supposed)}{then}")]
    rows = [(printable(_label(lack)), _lack(lack, why)) for lack in why.lacks]
    if why.verdict == "not now":
        rows.append(("order", _order(why)))
        rows.append(("start", _start(why)))
        rows += _remedies(why, look, supposed)
    elif why.verdict == "never":
        rows += [("never", printable(why.start_why)), *_remedies(why, look, supposed)]
    elif why.verdict == "starts" and why.cpus:
        rows.append(("where", f"CPUs {cpuset.render(why.cpus)}, memory nodes {cpuset.render(why.mems)}"))
    rows += [("note", printable(note)) for note in why.notes]
    wide = max((len(label) for label, _ in rows), default=0)
    return "\n".join([*lines, *(f"  {label:<{wide}}  {text}" for label, text in rows if text)])


def _headline(why: Why, supposed: bool) -> str:
    if why.past:
        return _headline_then(why)
    would = "would" if supposed else ""
    if supposed and why.start_by == "freezing":
        return "would start as soon as others are frozen for it"
    match why.verdict:
        case "starts":
            return "would start now" if supposed else "starts now"
        case "never":
            return f"can never run on this host{' like this' if supposed else ''}"
        case "not now":
            return f"{would or 'does'} not {'start' if supposed else 'run'} now"
    return f"is {why.state.replace('_', ' ')}; it does not wait for the scheduler"


def _headline_then(why: Why) -> str:
    match why.verdict:
        case "starts":
            return "was about to start"
        case "never":
            return "could never run on this host"
        case "not now":
            return "did not run"
    return f"was {why.state.replace('_', ' ')}"


def _label(lack: Lack) -> str:
    kind, _, name = lack.dimension.partition(":")
    return name if kind == "generic" else kind


def _lack(lack: Lack, why: Why) -> str:
    text = lack.text.removeprefix(f"{lack.dimension}: ").removeprefix(f"{_label(lack)}: ")
    return printable(text) + _held_by(lack, why)


def _held_by(lack: Lack, why: Why) -> str:
    if not lack.blockers:
        return ""
    known = {blocker.job: blocker for blocker in why.blockers}
    told = [_blocker(known.get(job) or Blocker(job, ""), why.at) for job in lack.blockers[:MOST_NAMED]]
    more = len(lack.blockers) + lack.others - len(told)
    by = {"order": "for", "dependency": "on", "preemption": "from"}.get(_label(lack), "held by")
    return f"; {by} {', '.join(told)}" + (f" and {more} more" if more else "")


def _blocker(blocker: Blocker, now: float) -> str:
    about = [printable(blocker.name)] if blocker.name else []
    about += [blocker.state] if blocker.state else []
    about += [f"expected to end in {render_duration(blocker.ends_at - now)}"] if blocker.ends_at > now else []
    return f"job {blocker.job}" + (f" ({', '.join(about)})" if about else "")


def _order(why: Why) -> str:
    if any(_label(lack) == "order" for lack in why.lacks):
        return ""
    return f"{why.ahead} waiting job{'' if why.ahead == 1 else 's'} before it" if why.ahead else ""


def _start(why: Why) -> str:
    if why.start_at is None:
        return f"not known: {printable(why.start_why)}"
    if why.start_by == "freezing":
        return "as soon as they stand still"
    after = render_duration(max(0.0, why.start_at - why.at))
    match why.start_by:
        case "time limits":
            return f"at the earliest in {after}, by the time limits of what runs"
        case "estimates":
            jobs = ", ".join(f"{job}" for job in why.open_ended)
            one = len(why.open_ended) == 1
            return f"at the earliest in {after}, by an estimate: job{'' if one else 's'} {jobs} " + (
                "gives no time limit" if one else "give no time limit"
            )
    return f"at the earliest in {after}"


def _remedies(why: Why, look: Look, supposed: bool) -> list[tuple[str, str]]:
    if supposed:
        return []
    if why.past:
        return [(f"{'or ' if number else ''}then", _changed(remedy)) for number, remedy in enumerate(why.remedies[:3])]
    found = [
        (f"{'or ' if number else ''}now", _remedy(remedy, why, look)) for number, remedy in enumerate(why.remedies)
    ]
    return found[:3]


def _jobs(jobs: Sequence[int]) -> str:
    more = f" and {len(jobs) - MOST_NAMED} more" if len(jobs) > MOST_NAMED else ""
    return f"job{'' if len(jobs) == 1 else 's'} {', '.join(map(str, jobs[:MOST_NAMED]))}{more}"


def _changed(remedy: Remedy) -> str:
    """What would have started it."""
    return f"it would have started with {remedy.what.replace('_', ' ')} {printable(remedy.value)}"


def _remedy(remedy: Remedy, why: Why, look: Look) -> str:
    value = printable(remedy.value)
    match remedy.what:
        case "urgency":
            frozen = f"; that freezes {_jobs(remedy.freezes)}" if remedy.freezes else ""
            return f"with urgency {value}: {look.program} priority --urgency {value} {why.job}{frozen}"
        case "cpus":
            return f"with {value} CPU{'' if value == '1' else 's'}: submit it again with --set resources.cpus={value}"
        case "memory":
            return f"with {value} memory: submit it again with --set resources.memory={value}"
        case "numa":
            return "on any memory nodes: submit it again with --set placement.numa=any"
        case "cores":
            return "without whole cores: submit it again with --set placement.cores=shared"
        case "time_limit":
            return f"if it ends within {value}: submit it again with --set time_limit={value}"
        case "queue":
            frozen = f"; that freezes {_jobs(remedy.freezes)}" if remedy.freezes else ""
            return f"in queue {value}: submit it again with --set queue={value}{frozen}"
    return f"with {remedy.what} {value}"
