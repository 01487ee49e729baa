"""`jobsd doctor`: what this host offers and lacks, as text or JSON. Needs no daemon, changes nothing, is for anybody.

Also what the launcher's start asks: whether it could make containers here.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict

from config.settings import Settings
from jobs.errors import EXIT_HOST, EXIT_OK, UserError
from scheduler.doctor.diagnose import diagnose
from scheduler.doctor.facts import Facts, to_json
from scheduler.doctor.finding import Finding, fatal
from scheduler.doctor.refusing import refused
from scheduler.doctor.text import report
from scheduler.doctor.trying import try_facts

_FLAGS = ("--json", "--all")
_NARROWEST, _WIDEST, _ELSEWHERE = 60, 120, 100


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Exit status: 0, or that of a host's error when something fatal was found. Raises UserError."""
    for word in arguments:
        if word not in _FLAGS:
            raise UserError(f"doctor: no option {word!r}", hint=f"possible: {', '.join(_FLAGS)}")
    facts = try_facts(settings, "doctor")
    findings = diagnose(facts, settings)
    if "--json" in arguments:
        told = {"facts": to_json(facts), "findings": [asdict(each) for each in findings]}
        _say(json.dumps(told, indent=2 if sys.stdout.isatty() else None))
    else:
        _say(_page(facts, findings, "--all" in arguments))
    return EXIT_HOST if fatal(findings) else EXIT_OK


def refuse(settings: Settings, *parts: str) -> None:
    """Before any of the parts is started. Raises Unsupported for what they can't do without."""
    if found := fatal(diagnose(try_facts(settings, parts[0]), settings), *parts):
        raise refused(found, parts[0])


def _page(facts: Facts, findings: Sequence[Finding], everything: bool) -> str:
    terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size((_ELSEWHERE, 24)).columns
    width = min(max(columns, _NARROWEST), _WIDEST)
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return report(facts, findings, width=width, colour=colour, everything=everything)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
