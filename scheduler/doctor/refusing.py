"""A start that is refused, with the doctor's text. The daemon's check only reads; the launcher's is in `command`."""

from __future__ import annotations

from collections.abc import Iterable

from config.settings import Settings
from jobs.errors import Unsupported
from scheduler.doctor.diagnose import diagnose
from scheduler.doctor.finding import JOBSD, Finding, fatal
from scheduler.doctor.reading import read_facts
from scheduler.doctor.text import refusal


def refuse(settings: Settings) -> None:
    """Before jobsd touches the host. Raises Unsupported for what it can't do without."""
    if found := fatal(diagnose(read_facts(settings, JOBSD), settings), JOBSD):
        raise refused(found, JOBSD)


def refused(found: Iterable[Finding], part: str) -> Unsupported:
    """Of `part`, JOBSD or LAUNCHER."""
    who = "it" if part == JOBSD else "the launcher"
    hint = "the whole picture: jobsctl doctor"
    return Unsupported(f"{who} can't do its work on this host\n{refusal(found)}", hint=hint)
