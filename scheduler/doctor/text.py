"""Findings as people read them: each problem two or three lines, all that is fine in one block. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from jobs.render import printable
from jobs.units import render_size
from scheduler.doctor.facts import Facts
from scheduler.doctor.finding import JOBS, Finding

_INDENT = 9
_COLOURS = {"fatal": "\x1b[1;31m", "missing": "\x1b[33m", "limited": "\x1b[33m"}
_PLAIN = "\x1b[0m"


def report(
    facts: Facts, findings: Sequence[Finding], *, width: int, colour: bool = False, everything: bool = False
) -> str:
    """The whole page. `everything`: what is fine gets a line each too.

    Where something is fatal, the rest can wait: of it only what was seen is shown.
    """
    problems = [each for each in findings if each.state in _COLOURS]
    brief = any(each.state == "fatal" for each in problems) and not everything
    parts = [*_wrapped("", _heading(facts), width), *_wrapped("", _verdict(facts, problems), width)]
    for each in problems:
        lines = lines_of(each, width=width, colour=colour, seen_only=brief and each.state != "fatal")
        parts.append("\n".join(lines))
    parts += ["\n".join(part) for part in (_unknown(findings, width), _fine(findings, width, everything)) if part]
    return "\n".join(parts)


def refusal(findings: Iterable[Finding]) -> str:
    """Of a program that does not start: the fatal ones, as `report` shows them."""
    return "\n".join(line for each in findings for line in lines_of(each, width=100))


def lines_of(finding: Finding, *, width: int, colour: bool = False, seen_only: bool = False) -> list[str]:
    word = finding.state.upper() if finding.state == "fatal" else finding.state
    shown = f"{_COLOURS.get(finding.state, '')}{word}{_PLAIN}" if colour else word
    head = _wrapped(f"{word:<{_INDENT}}", f"{_title(finding)}: {finding.seen}", width)
    head[0] = shown + head[0][len(word) :]
    if seen_only:
        return head
    costs = _wrapped(f"{'':<{_INDENT}}costs: ", finding.costs, width)
    mends = _wrapped(f"{'':<{_INDENT}}mend:  ", finding.mends, width) if finding.mends else []
    return [*head, *costs, *mends]


def _title(finding: Finding) -> str:
    return finding.name if finding.name.startswith(finding.area) else f"{finding.area}, {finding.name}"


def _wrapped(first: str, text: str, width: int) -> list[str]:
    """Words of a command stay whole; what follows is indented like the first line's text."""
    return textwrap.wrap(
        printable(text), width, initial_indent=first, subsequent_indent=" " * len(first),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _heading(facts: Facts) -> str:
    parts = [facts.distribution or "an unknown distribution", f"Linux {facts.kernel} {facts.machine}"]
    parts.append(f"{facts.core.cpus} CPU{'s' * (facts.core.cpus != 1)}, {render_size(facts.core.memory_bytes)}")
    parts += ["systemd"] if facts.init else []
    if facts.container:
        parts.append("in a container")
    return ", ".join(parts)


def _verdict(facts: Facts, problems: Sequence[Finding]) -> str:
    counts = {state: sum(each.state == state for each in problems) for state in _COLOURS}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    stops = [part for part in ("jobsd", "launcher", JOBS) if any(part in each.stops for each in problems)]
    if stops == [JOBS]:
        return f"jobsd would start here, and every job fail: {told}"
    if stops:
        where = "; it is for the host itself, not for a container without the host's powers" * _confined(facts)
        return f"jobsd can't run jobs here: {told}{where}"
    if facts.powerless:
        return f"nothing seen that would stop jobsd; seen by one who may not look everywhere: {told}"
    return f"jobsd can run jobs here: {told or 'nothing is missing'}"


def _confined(facts: Facts) -> bool:
    return facts.uid == 0 and facts.powerless and bool(facts.container)


def _unknown(findings: Sequence[Finding], width: int) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for each in findings:
        if each.state == "unknown":
            by_reason.setdefault(each.seen, []).append(_title(each))
    return [
        line
        for reason, names in by_reason.items()
        for line in _wrapped(f"{'not told':<{_INDENT}}", f"{'; '.join(names)}: {reason}", width)
    ]


def _fine(findings: Sequence[Finding], width: int, everything: bool) -> list[str]:
    fine = [each for each in findings if each.state == "ok"]
    if everything:
        return [line for each in fine for line in _wrapped(f"{'ok':<{_INDENT}}", f"{_title(each)}: {each.seen}", width)]
    by_area: dict[str, list[str]] = {}
    for each in fine:
        by_area.setdefault(each.area, []).append(each.name if each.name != each.area else each.seen)
    told = "; ".join(f"{area} ({', '.join(names)})" for area, names in by_area.items())
    return _wrapped(f"{'ok':<{_INDENT}}", told, width)
