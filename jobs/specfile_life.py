"""Checks of the keys about retries, begin, deadline and warning: TOML value → value of jobs.spec, or Refused.

Daemon only: a time without a zone is one of this host's.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from math import isfinite

from jobs.spec import Moment
from jobs.specfile_keys import SIGNALS, stop_signal
from jobs.specfile_values import Refused, closest, duration, element, show, type_name, unique

CAUSES = ("exit", "signal", "oom", "start")
MOST_FACTOR = 100.0


def moment(given: object) -> Moment:
    """`"2026-12-24T18:00"`, with or without a zone, TOML's own dates, or `"+2h"` after the submission."""
    wanted = 'a date and time such as "2026-12-24T18:00", or a time after the submission such as "+2h"'
    if isinstance(given, str) and given.startswith("+"):
        return Moment(after_s=duration(given[1:].strip()))
    if isinstance(given, str):
        text = given
    elif isinstance(given, date):  # a datetime is one
        text = given.isoformat()
    else:
        hint = f'write "+{given}s"' if isinstance(given, int) and not isinstance(given, bool) else ""
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}", hint=hint)
    if re.fullmatch(r"[0-9.]+\s*[a-z]+", text):
        raise Refused(f"{show(given)} is not possible; needs {wanted}", hint=f'write "+{text}"')
    try:
        at = datetime.fromisoformat(text)
        return Moment(at=at.timestamp() if at.tzinfo else at.astimezone().timestamp())
    except (ValueError, OverflowError, OSError):
        raise Refused(f"{show(given)} is not possible; needs {wanted}", hint=closest(text, ())) from None


def retry_on(given: object) -> tuple[str | int, ...]:
    """Causes, exit codes, and names of signals; these without SIG from here on."""
    if not isinstance(given, list):
        hint = f"write: on = [{json.dumps(given)}]" if isinstance(given, int | str) else ""
        raise Refused(f"{show(given)} is {type_name(given)}; needs a list", hint=hint)
    found = tuple(element(position, _cause, item) for position, item in enumerate(given))
    unique(found, "cause")
    return found


def _cause(given: object) -> str | int:
    wanted = f"one of {', '.join(CAUSES)}, an exit code from 1 to 255, or a signal's name"
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}")
    if isinstance(given, int):
        if not 1 <= given <= 255:
            raise Refused(f"{show(given)} is out of range; needs {wanted}")
        return given
    if given in CAUSES:
        return given
    short = given.removeprefix("SIG")
    if short not in SIGNALS:
        raise Refused(f"{show(given)} is not possible; needs {wanted}", hint=closest(given, (*CAUSES, *SIGNALS)))
    return short


def factor(given: object) -> float:
    wanted = f"a number from 1 to {MOST_FACTOR:g}"
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}")
    if not isfinite(given) or not 1 <= given <= MOST_FACTOR:
        raise Refused(f"{show(given)} is out of range; needs {wanted}")
    return float(given)


def warn_signal(given: object) -> str:
    """Any that a program can handle."""
    if given in ("KILL", "SIGKILL", "STOP", "SIGSTOP"):
        raise Refused(f"{show(given)} is not possible; no program can handle it", hint='for example "USR1" or "TERM"')
    return stop_signal(given)
