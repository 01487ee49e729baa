"""What needs an upper layer is done by the daemon's program: this process becomes it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import NoReturn

from jobs.errors import HostError


def become_jobsd(*arguments: str) -> NoReturn:
    """The `jobsd` beside this program, else the one on PATH. Raises HostError."""
    beside = [
        os.path.join(folder, "jobsd") for folder in (os.path.dirname(sys.argv[0]), os.path.dirname(sys.executable))
    ]
    found = next((path for path in beside if os.access(path, os.X_OK)), None) or shutil.which("jobsd")
    if not found:
        raise HostError("no program 'jobsd' beside this one or on PATH", hint="install the whole package")
    sys.stdout.flush()
    try:
        os.execv(found, [found, *arguments])
    except OSError as error:
        raise HostError(
            f"{found} can't be started: {error.strerror}", hint="you must be able to read the whole installation"
        ) from error
