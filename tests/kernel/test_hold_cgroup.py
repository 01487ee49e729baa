"""config/systemd/hold-cgroup leaves the group it keeps, so that v2 lets that group have children with controllers."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import leaks
import pytest
from patience import PATIENCE_S

HOLD = Path(__file__).parents[2] / "config" / "systemd" / "hold-cgroup"


@pytest.mark.needs("cgroup2")
def test_the_holder_sits_in_a_leaf() -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    unified = Path(next(line for line in lines if " - cgroup2 " in line).split()[4])
    group = unified / f"jobs-test-hold-{os.getpid()}"
    group.mkdir()
    try:
        enter = f'echo $$ > "{group}/cgroup.procs"; exec "{HOLD}"'
        holder = subprocess.Popen(["/bin/sh", "-c", enter], stdin=subprocess.DEVNULL)
        try:
            leaf = group / "holder" / "cgroup.procs"
            wait_for(lambda: leaf.exists() and leaf.read_text().split() == [str(holder.pid)])
            assert (group / "cgroup.procs").read_text() == ""
            wait_for(lambda: Path(f"/proc/{holder.pid}/comm").read_text() == "sleep\n")
        finally:
            holder.kill()
            holder.wait()
    finally:
        for folder in (group / "holder", group):
            assert leaks.polled(functools.partial(removed, folder), deadline_s=PATIENCE_S)


def removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def wait_for(ready: Callable[[], object]) -> None:
    assert leaks.polled(ready, deadline_s=PATIENCE_S)
