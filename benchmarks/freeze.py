#!/usr/bin/env python3
"""How long it takes until a group of processes is confirmed frozen, and until it runs again, on both freezers.

For each number of tasks a group of its own: a tenth of the tasks, at most BURNERS, burn CPU, the others sleep. Each
round freezes it, watches it for IDLE_S (its CPU time must not grow) and thaws it. "Confirmed": the kernel says so
(`frozen 1` in cgroup.events; FROZEN read back from freezer.state), as the daemon waits for before it gives CPUs away.

    sudo .venv/bin/python benchmarks/freeze.py [--tasks 1,10,100,1000] [--rounds 50] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runtime.cgroups.files import write
from runtime.cgroups.freezer import Freezer
from runtime.cgroups.freezer_v1 import FreezerV1
from runtime.cgroups.freezer_v2 import FreezerV2

BURNERS = 8
DEADLINE_S = 30.0
IDLE_S = 0.05


def roots() -> dict[str, str]:
    """Freezer → where its hierarchy is mounted."""
    found = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup2":
            found["v2"] = place
        elif kind == "cgroup" and "freezer" in options.split(","):
            found["v1"] = place
    return found


@contextmanager
def crowd(root: str, tasks: int) -> Iterator[tuple[str, list[int]]]:
    """A group with so many processes; both are gone afterwards."""
    group = f"{root}/jobs-benchmark-{os.getpid()}"
    os.mkdir(group)
    pids = []
    try:
        for number in range(tasks):
            pid = os.fork()
            if not pid:
                with suppress(KeyboardInterrupt):
                    write(f"{group}/cgroup.procs", "0")
                    while number < min(BURNERS, -(-tasks // 10)):
                        pass
                    signal.pause()
                os._exit(0)
            pids.append(pid)
        while len(Path(f"{group}/cgroup.procs").read_text().split()) < tasks:
            time.sleep(0.01)
        yield group, pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        end = time.monotonic() + 10
        while os.path.isdir(group):
            with suppress(OSError):
                os.rmdir(group)
            if time.monotonic() > end:
                raise TimeoutError(f"{group} is still busy")
            time.sleep(0.01)


def cpu_ticks(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(after[11]) + int(after[12])
    return total


async def one_round(freezer: Freezer, pids: list[int]) -> tuple[float, float]:
    """Milliseconds of the freeze and of the thaw. Raises AssertionError when a frozen group used CPU."""
    frozen_s = await freezer.freeze(DEADLINE_S)
    before = cpu_ticks(pids)
    await anyio.sleep(IDLE_S)
    assert cpu_ticks(pids) == before, "a frozen group used CPU"
    thawed_s = await freezer.thaw()
    return frozen_s * 1000, thawed_s * 1000


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def measure(tasks: int, rounds: int) -> list[dict[str, object]]:
    makers = {"v1": FreezerV1, "v2": FreezerV2}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in roots()}
    for name in times:
        with crowd(roots()[name], tasks) as (group, pids):
            freezer = makers[name](group)
            for _ in range(rounds):
                times[name].append(await one_round(freezer, pids))
    return [
        {
            "freezer": name,
            "tasks": tasks,
            "freeze_ms_p50": round(statistics.median(freeze for freeze, _ in found), 3),
            "freeze_ms_p99": round(percentile([freeze for freeze, _ in found], 0.99), 3),
            "thaw_ms_p50": round(statistics.median(thaw for _, thaw in found), 3),
        }
        for name, found in times.items()
    ]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="1,10,100,1000")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [row for tasks in given.tasks.split(",") for row in await measure(int(tasks), given.rounds)]
    if given.json:
        print(json.dumps(rows))
        return
    print("| freezer | tasks | freeze p50 ms | freeze p99 ms | thaw p50 ms |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row.values())} |")


if __name__ == "__main__":
    anyio.run(main)
