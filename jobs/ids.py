"""Names of jobs and of their executions. Pure.

A *job* is what a user submitted; an *execution* is one attempt of one task of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_JOB = re.compile(r"(\d{1,15})(?:_(\d{1,9}))?")
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


def parse_job(text: str) -> tuple[int, int | None]:
    """`17` → (17, None); `12_3`, the task of index 3 of the array 12, → (12, 3). Raises ValueError."""
    match = _JOB.fullmatch(text)
    if not match or not text.isascii():
        raise ValueError(f"not the id of a job: {text!r}")
    return int(match[1]), int(match[2]) if match[2] else None


def is_execution_id(text: str) -> bool:
    try:
        ExecutionId.parse(text)
    except ValueError:
        return False
    return True
