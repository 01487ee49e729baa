"""Who delayed a job, as text for people. Pure: values in, text out."""

from __future__ import annotations

from jobs.protocol_blame import Blame, BlamePart
from jobs.render import Look, printable
from jobs.units import render_duration

MOST_SHOWN = 20
OWN_WORDS = {
    "starting": "its container was being made",
    "round": "there was room; the next round of the scheduler",
    "daemon": "there was room, and no daemon ran",
}


def page(blame: Blame, look: Look) -> str:
    name = f" ({printable(blame.name)})" if blame.name else ""
    waits = "has waited" if blame.state in ("held", "queued", "starting", "frozen", "thawing") else "waited"
    lines = [look.bold(f"job {blame.job}{name} {waits} {render_duration(blame.waited_s)}")]
    shown, rest = blame.parts[:MOST_SHOWN], blame.parts[MOST_SHOWN:]
    rows = [(render_duration(part.seconds), _label(part), _who(part)) for part in shown]
    if rest:
        took = render_duration(sum(part.seconds for part in rest))
        rows.append((took, "", f"{len(rest)} others; see them with --json"))
    wide = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines += [f"  {took:>{wide[0]}}  {label:<{wide[1]}}  {who}" for took, label, who in rows]
    lines += [f"  note: {printable(note)}" for note in blame.notes]
    return "\n".join(lines)


def _label(part: BlamePart) -> str:
    kind, _, name = part.cause.partition(":")
    return printable(name if kind == "generic" else kind)


def _who(part: BlamePart) -> str:
    if not part.job:
        return OWN_WORDS.get(part.cause) or printable(part.text.removeprefix(f"{part.cause} "))
    about = ", ".join(printable(word) for word in (part.name, part.owner) if word)
    return f"job {part.job}" + (f" ({about})" if about else "")
