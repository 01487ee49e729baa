"""Stacks of Python programs by py-spy, which reads memory only and so works on what is frozen.

It is a program that the launcher's `helper` runs. Its strings come from the job's memory: nothing of them is trusted.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from jobs.inspection import Process
from runtime.helper import HelperRunner

MOST_PROCESSES = 32
MOST_FRAMES = 100
MOST_S = 20.0  # for one process
_PYTHON = re.compile(r"(.*/)?(python|pypy|uwsgi)[0-9.]*")


def is_python(process: Process) -> bool:
    return bool(_PYTHON.fullmatch(process.program)) or any("/libpython3" in region.name for region in process.memory)


async def with_stacks(process: Process, helper: HelperRunner) -> Process:
    """The process with the frames of its threads, the innermost first. Raises ValueError with what py-spy said."""
    argv = [str(Path(sys.executable).parent / "py-spy"), "dump", "--nonblocking", "--json"]
    done = await helper([*argv, "--pid", str(process.host_pid)], env={"RUST_BACKTRACE": "0"}, timeout_s=MOST_S)
    if done.status != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(said[0] if said else f"py-spy ended with status {done.status}")
    stacks = parse(done.stdout)
    return replace(process, threads=tuple(replace(each, python=stacks.get(each.tid, ())) for each in process.threads))


def parse(text: bytes) -> Mapping[int, tuple[str, ...]]:
    """Thread, as the job numbers it → `inner (train.py:5)`. Raises ValueError on what is no such list."""
    found: dict[int, tuple[str, ...]] = {}
    try:
        for thread in json.loads(text):
            frames = thread["frames"][:MOST_FRAMES]
            number = int(thread["os_thread_id"] or 0)  # before Python 3.11 it can't be known from memory
            found[number] = tuple(f"{frame['name']} ({frame['filename']}:{frame['line']})" for frame in frames)
    except (TypeError, KeyError) as error:
        raise ValueError(f"py-spy printed something else: {error!r}") from error
    return found
