"""Times of day on the command line."""

from __future__ import annotations


def moment(option: str, text: str) -> float:
    """`"2027-01-31 22:00"`, in the host's zone where it names none, `"now"` or `"10m ago"`; seconds since 1970.

    Raises UserError with the option's name."""
    import time
    from datetime import datetime

    from jobs.errors import UserError
    from jobs.units import parse_duration

    try:
        if text == "now":
            return time.time()
        if text.endswith(" ago"):
            return time.time() - parse_duration(text.removesuffix(" ago"))
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        hint = 'write for example "2027-01-31 22:00", "10m ago", or now'
        raise UserError(f"{option}: {text!r} is not a time", hint=hint) from None
