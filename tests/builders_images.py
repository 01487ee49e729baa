"""What the image tests share: a helper runner that starts real processes, and archives built member by member."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anyio import to_thread


@dataclass(frozen=True)
class Ran:
    status: int
    stdout: bytes
    stderr: bytes


async def run_helper(
    argv: Sequence[str],
    *,
    fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float = 300,
) -> Ran:
    """The launcher's `helper` verb with a plain subprocess: `fds` appear as 3, 4, 5 …"""

    def run() -> Ran:
        # dup above the target range first, so that no dup2 overwrites a source
        moves = "".join(f"exec {3 + index}<&{fd}\n" for index, fd in enumerate(high))
        closes = "".join(f" {fd}<&-" for fd in high)
        line = f'{moves}exec "$@"{closes}'
        done = subprocess.run(
            ["/bin/bash", "-c", line, "helper", *argv],
            input=stdin,
            capture_output=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})},
            pass_fds=high,
            timeout=timeout_s,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
    try:
        return await to_thread.run_sync(run)
    finally:
        for fd in high:
            os.close(fd)
