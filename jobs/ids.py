"""Names of jobs and of their executions. Pure.

A *job* is what a user submitted; an *execution* is one attempt of one task of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_EXECUTION = re.compile(r"(\d{1,15})\.(\d{1,9})\.(\d{1,6})")


@dataclass(frozen=True, slots=True, order=True)
class ExecutionId:
    """job.index.attempt, for example `17.0.1`; also the name of its folders and cgroups."""

    job: int
    index: int = 0
    attempt: int = 1

    def __str__(self) -> str:
        return f"{self.job}.{self.index}.{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> ExecutionId:
        """Raises ValueError on anything but three plain ASCII numbers."""
        match = _EXECUTION.fullmatch(text)
        if not match or not text.isascii():
            raise ValueError(f"not an execution id: {text!r}")
        return cls(*(int(part) for part in match.groups()))


def is_execution_id(text: str) -> bool:
    try:
        ExecutionId.parse(text)
    except ValueError:
        return False
    return True
