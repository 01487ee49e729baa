"""How long a scheduling round and a submission take, printed as a table or with --json as one object. No assertion.

    python benchmarks/scheduler.py [--json] [--queued N] [--nodes 64 --cpus 64]
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jobs import events as ev
from jobs.array import parse_array
from jobs.events import Owner
from jobs.host import NumaNode, Topology
from jobs.record import Record
from jobs.spec import JobSpec, Resources
from jobs.states import advance
from scheduler.actions import Place
from scheduler.capacity import Capacity
from scheduler.clock import SystemClock
from scheduler.decide import decide
from scheduler.ports import NewJob
from scheduler.store import Store
from scheduler.world import World
from scheduler.writer import Writer

GIB = 1 << 30


def a_capacity(nodes: int, cpus: int) -> Capacity:
    return Capacity.of(
        Topology(
            tuple(
                NumaNode(node, tuple(range(node * cpus, (node + 1) * cpus)), 64 * GIB,
                         tuple((other, 10 if other == node else 21) for other in range(nodes)))
                for node in range(nodes)
            )
        )
    )  # fmt: skip


def a_spec(number: int) -> JobSpec:
    """One of 30 shapes."""
    return JobSpec(
        name=f"job-{number}",
        command=("true",),
        priority=number % 7 * 10,
        resources=Resources(cpus=(0.5, 1, 2, 4, 8)[number % 5], memory_bytes=(1 + number % 6) * GIB // 2),
    )


def submitted(job: int) -> ev.Submitted:
    return ev.Submitted(job, a_spec(job), Owner(1000 + job % 200, 1000), 1000.0 + job)


def milliseconds(times: list[float]) -> dict[str, float]:
    return {"p50_ms": round(statistics.median(times) * 1000, 3), "worst_ms": round(max(times) * 1000, 3)}


def rounds(queued: int, nodes: int = 2, cpus: int = 64) -> dict[str, object]:
    """A host of `nodes` × `cpus`: a round that fills it, then rounds in which one job ended."""
    world = World.of(a_capacity(nodes, cpus))
    records: dict[int, Record] = {}

    def happen(event: ev.Event) -> None:
        before = records.get(event.job)
        records[event.job] = after = advance(before, event)
        world.apply(event, before, after)

    began = time.perf_counter()
    for job in range(1, queued + 1):
        happen(submitted(job))
    applied = time.perf_counter() - began
    gc.collect()
    gc.freeze()
    times = []
    running: list[int] = []
    for _ in range(51):
        began = time.perf_counter()
        world.tick(1e6)
        decision = decide(world, 1e6, {})
        times.append(time.perf_counter() - began)
        for action in decision.actions:
            if isinstance(action, Place):
                happen(ev.Placed(action.job, f"{action.job}.0.1", action.placement, 0.0))
                happen(ev.Started(action.job, f"{action.job}.0.1", 0.0))
                running.append(action.job)
        ended = running.pop(0)
        happen(ev.Exited(ended, f"{ended}.0.1", 0, "", 1.0, ev.Usage(), 0.0))
        happen(ev.CleanedUp(ended, f"{ended}.0.1"))
    gc.unfreeze()
    rebuilt = time.perf_counter()
    World.of(world.capacity, records.values())
    return {
        "queued": queued,
        "running": len(running),
        "filling_ms": round(times[0] * 1000, 3),
        "one_ended": milliseconds(times[1:]),
        "apply_us": round(applied / queued * 1e6, 1),
        "rebuild_ms": round((time.perf_counter() - rebuilt) * 1000, 1),
    }


async def submissions(callers: int, jobs: int, each: int) -> dict[str, object]:
    """Real SQLite, synchronous=FULL, in a temporary folder; every answer is after its commit."""
    with tempfile.TemporaryDirectory(prefix="jobs-bench-") as folder:
        store = await Store(f"{folder}/journal.db").open()
        writer = Writer(store, World.of(a_capacity(2, 64)), SystemClock())
        times: list[float] = []

        async def caller(first: int) -> None:
            for number in range(first, first + jobs // callers, each):
                new = [NewJob(submitted(number + k), b"") for k in range(each)]
                began = time.perf_counter()
                await writer.submit(new)
                times.append(time.perf_counter() - began)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run)
            began = time.perf_counter()
            async with anyio.create_task_group() as callers_:
                for number in range(callers):
                    callers_.start_soon(caller, number * jobs)
            took = time.perf_counter() - began
            tasks.cancel_scope.cancel()
        entries = store.seq
        await store.close()
    per_s = round(jobs / took)
    return {"callers": callers, "jobs_each": each, "per_s": per_s, "entries": entries, **milliseconds(times)}


async def at_once() -> dict[str, object]:
    """An array of 100,000 tasks; then 100,000 single jobs in submissions of 1,000, the most that the API takes. By the
    clock on the wall, and the CPU time of the whole process."""
    with tempfile.TemporaryDirectory(prefix="jobs-bench-") as folder:
        store = await Store(f"{folder}/journal.db").open()
        writer = Writer(store, World.of(a_capacity(2, 64)), SystemClock())
        array = replace(submitted(1), spec=replace(a_spec(1), array=parse_array("0-99999")))
        jobs = [NewJob(submitted(number), b"") for number in range(100_000)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run)
            wall, cpu = time.perf_counter(), time.process_time()
            await writer.submit([NewJob(array, b"")])
            one, one_cpu = time.perf_counter() - wall, time.process_time() - cpu
            wall, cpu = time.perf_counter(), time.process_time()
            async with anyio.create_task_group() as callers:
                for first in range(0, len(jobs), 1000):
                    callers.start_soon(writer.submit, jobs[first : first + 1000])
            many, many_cpu = time.perf_counter() - wall, time.process_time() - cpu
            tasks.cancel_scope.cancel()
        await store.close()
    return {
        "array_of_100000_ms": round(one * 1000, 1),
        "array_of_100000_cpu_ms": round(one_cpu * 1000, 1),
        "jobs_100000_s": round(many, 2),
        "jobs_100000_cpu_s": round(many_cpu, 2),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    parser.add_argument("--queued", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, default=2, help="memory nodes of the host")
    parser.add_argument("--cpus", type=int, default=64, help="CPUs of each")
    given = parser.parse_args()
    result = {
        "round": rounds(given.queued, given.nodes, given.cpus),
        "submit": [await submissions(1, 300, 1), await submissions(10, 2000, 1), await submissions(1, 2000, 500)],
    }
    result["at_once"] = await at_once()
    if given.json:
        print(json.dumps(result))
        return
    found = result["round"]
    assert isinstance(found, dict)
    print(f"rounds, {given.nodes} × {given.cpus} CPUs, 30 shapes")
    for key, value in found.items():
        print(f"  {key:12} {value}")
    print(f"at once: {result['at_once']}")
    print("submissions")
    print(f"  {'callers':>8} {'jobs each':>10} {'per second':>11} {'p50 ms':>8} {'worst ms':>9}")
    for row in result["submit"]:
        assert isinstance(row, dict)
        print(f"  {row['callers']:8} {row['jobs_each']:10} {row['per_s']:11} {row['p50_ms']:8} {row['worst_ms']:9}")


if __name__ == "__main__":
    anyio.run(main)
