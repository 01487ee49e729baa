"""What each key of a policy file may hold: given TOML value → value of jobs.policy, or Refused. Daemon only."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobs import specfile_keys
from jobs.policy import DAY_NAMES, Window
from jobs.specfile_values import Refused, choice, duration, element, show, text, type_name, unique

DAY_MIN = 24 * 60
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1e6


def names(what: str) -> Callable[[object], tuple[str, ...]]:
    """A list of names of users or groups, as the host knows them."""

    def check(given: object) -> tuple[str, ...]:
        if not isinstance(given, list):
            hint = f'write: ["{given}"]' if isinstance(given, str) else ""
            raise Refused(f"{show(given)} is {type_name(given)}; needs a list of names", hint=hint)
        found = [element(position, specfile_keys.account, item) for position, item in enumerate(given)]
        unique(found, what)
        return tuple(found)

    return check


def weight(given: object) -> float:
    wanted = f"a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}"
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}")
    if not LEAST_WEIGHT <= given <= MOST_WEIGHT:
        raise Refused(f"{show(given)} is out of range; needs {wanted}")
    return float(given)


def share_points(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1000:
        raise Refused(f"{show(given)} is not possible; needs a number from 0 to 1000")
    return float(given)


def weights(given: object) -> dict[str, float]:
    """`["alice", "bob"]` or `{ alice = 2, bob = 1 }`."""
    if isinstance(given, dict):
        found = {
            element(name, specfile_keys.account, name): element(name, weight, each) for name, each in given.items()
        }
    elif isinstance(given, list):
        found = dict.fromkeys(names("user")(given), 1.0)
    else:
        wanted = "a list of names, or a table of weights such as { alice = 2, bob = 1 }"
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}")
    return found


def longer_than_zero(given: object) -> float:
    found = duration(given)
    if found <= 0:
        raise Refused(f"{show(given)} is too short; needs more than 0")
    return found


def window(given: object) -> Window:
    """`"mon-fri 20:00-06:00"`: begins on these days; to the next day when it does not end later than it begins."""
    wanted = 'needs DAYS HH:MM-HH:MM, for example "mon-fri 20:00-06:00", "sat,sun 00:00-24:00" or "daily 22:00-06:00"'
    found = text(given, wanted=f"a window; {wanted}")
    parts = re.fullmatch(r"([a-z,-]+) +(\d\d):(\d\d)-(\d\d):(\d\d)", found, re.ASCII)
    if not parts:
        raise Refused(f"{show(given)} is not a window; {wanted}")
    begins, ends = int(parts[2]) * 60 + int(parts[3]), int(parts[4]) * 60 + int(parts[5])
    if int(parts[3]) > 59 or int(parts[5]) > 59 or begins >= DAY_MIN or ends > DAY_MIN:
        raise Refused(f"{show(given)} is not possible; times are 00:00 to 23:59, and 24:00 at the end")
    return Window(_days(parts[1]), begins, ends)


def _days(given: str) -> tuple[int, ...]:
    if given == "daily":
        return tuple(range(7))
    found: set[int] = set()
    for part in given.split(","):
        first, _, last = part.partition("-")
        begin, end = _day(first), _day(last or first)
        found |= {(begin + ahead) % 7 for ahead in range((end - begin) % 7 + 1)}
    return tuple(sorted(found))


def _day(given: str) -> int:
    return DAY_NAMES.index(choice(*DAY_NAMES)(given))


def timezone(given: object) -> str:
    found = text(given)
    try:
        ZoneInfo(found)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused(f'{show(given)} is no time zone that this host knows; for example "Europe/Berlin"') from None
    return found


def moment(given: object) -> datetime:
    """With its offset, or without: then in the policy's time zone."""
    if isinstance(given, datetime):
        return given
    if isinstance(given, date):
        return datetime.combine(given, time())
    raise Refused(
        f"{show(given)} is {type_name(given)}; needs a date and time, for example 2027-01-31T22:00:00",
        hint="write it without quotes" if isinstance(given, str) else "",
    )
