"""Does the steps of a plan: looks up who can, and says which step failed. Launcher side.

Three groups by privilege: `detach` (the host's power), `furnish` (root of the job's user namespace), `renounce` (giving
up). One context goes through all of them; clones take their copy of it along.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any

from runtime import detach, furnish, renounce
from runtime.context import Context
from runtime.steps import Step, label

_PERFORMERS: dict[type, Callable[[Any, Context], None]] = {**detach.STEPS, **furnish.STEPS, **renounce.STEPS}


class StepFailure(Exception):
    """A step failed with an errno on a path; crosses processes as messages.StepError."""

    def __init__(self, step: str, number: int, path: str) -> None:
        super().__init__(step, number, path)
        self.step, self.errno, self.path = step, number, path


def perform(steps: Iterable[Step], context: Context) -> None:
    """Does them in order. Raises StepFailure at the first that fails; nothing is undone, the caller's process ends."""
    for step in steps:
        try:
            _PERFORMERS[type(step)](step, context)
        except OSError as error:
            raise failure(label(step), error, _path(step)) from error


def failure(step: str, error: OSError, path: str = "") -> StepFailure:
    """The path of the error itself is more exact than the step's."""
    told = error.filename if isinstance(error.filename, str) and error.filename else path
    return StepFailure(step, error.errno or errno.EIO, told)


def _path(step: Step) -> str:
    for field in ("path", "target", "source", "program"):
        value = getattr(step, field, "")
        if value:
            return str(value)
    return ""
