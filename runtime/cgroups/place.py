"""Where one execution sits in one hierarchy. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Three directories of the same hierarchy. `version` is 1 or 2."""

    version: int
    job: str

    @property
    def mon(self) -> str:
        return f"{self.job}/mon"

    @property
    def run(self) -> str:
        return f"{self.job}/run"

    @property
    def all(self) -> tuple[str, str, str]:
        """Parents first."""
        return self.job, self.mon, self.run
