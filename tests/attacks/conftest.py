from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder for an image store."""
    made = tmp_path / "state"
    made.mkdir()
    return made
