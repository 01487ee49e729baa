"""`jobsd doctor`: what this host offers and lacks, as text or JSON. Needs no daemon, changes nothing, is for anybody.

Also what the launcher's start asks: whether it could make containers here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict

from config.settings import Settings
from jobs.errors import EXIT_HOST, EXIT_OK, UserError
from scheduler.doctor.diagnose import diagnose
from scheduler.doctor.facts import Facts, from_json, to_json
from scheduler.doctor.finding import Finding, fatal
from scheduler.doctor.reading import as_packaged
from scheduler.doctor.refusing import refused
from scheduler.doctor.text import report
from scheduler.doctor.trying import try_facts

_NARROWEST, _WIDEST, _ELSEWHERE = 60, 120, 100


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Exit status: 0, or that of a host's error when something fatal was found. Raises UserError."""
    wanted, settings = _parsed(arguments), as_packaged(settings)
    facts = _saved(wanted.facts) if wanted.facts else try_facts(settings, "doctor")
    findings = diagnose(facts, settings)
    if wanted.json:
        told = {"facts": to_json(facts), "findings": [asdict(each) for each in findings]}
        _say(json.dumps(told, indent=2 if sys.stdout.isatty() else None))
    else:
        _say(_page(facts, findings, wanted.all))
    return EXIT_HOST if fatal(findings) else EXIT_OK


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("jobsd doctor", description="what this host offers and lacks")
    parser.add_argument("--json", action="store_true", help="facts and findings")
    parser.add_argument("--all", action="store_true", help="a line for each thing that is fine, too")
    parser.add_argument("--from", dest="facts", metavar="FILE", help="of another host, what --json gave there")
    return parser.parse_args(arguments)


def _saved(path: str) -> Facts:
    """Raises UserError."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        return from_json(data.get("facts", data))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not what doctor --json prints: {error}") from error


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
