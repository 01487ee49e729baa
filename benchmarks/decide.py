#!/usr/bin/env python3
"""How long it takes from an event to the decision it leads to, against the length of the queue and what runs.

200 users, 30 shapes (a third with a time limit) and two that are wider than a node, 4 queues, fair share, backfill,
preemption by freezing; the host is full. Events alternate: a job ends, one is submitted, one changes its urgency, which
is from 0 to 99. Timed are `advance`, `World.apply`, `tick` and `decide`; that what was decided is done (jobs start, are
frozen, come back) is not. No assertion.

    python benchmarks/decide.py [--queued 1000,10000,100000,1000000] [--running 1000] [--cpus 4096] [--events 600]
                                [--against-running 250,500,1000,2000,4000] [--cpu-time] [--json] [--plot FILE.svg]
                                [--profile] [--why]

With --why instead: what `jobs why` costs, of the first, a middle and the last waiting job, and the changes it tries.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import random
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log10
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jobs import events as ev
from jobs.events import Owner
from jobs.host import NumaNode, Topology
from jobs.policy import Policy, Queue
from jobs.record import Record
from jobs.spec import JobSpec, Resources
from jobs.states import advance
from scheduler.actions import Place, Preempt, ThawPlace
from scheduler.capacity import Capacity
from scheduler.decide import decide
from scheduler.decision import Decision
from scheduler.explain import answer, cheapest
from scheduler.world import World

GIB = 1 << 30
NODES, USERS, SHAPES = 64, 200, 30
QUEUES = ("default", "night", "long", "urgent")


def a_capacity(cpus: int) -> Capacity:
    each = cpus // NODES
    far = {(one, other): 10 if one == other else 21 for one in range(NODES) for other in range(NODES)}
    nodes = (
        NumaNode(node, tuple(range(node * each, (node + 1) * each)), 256 * GIB,
                 tuple((other, far[node, other]) for other in range(NODES)))
        for node in range(NODES)
    )  # fmt: skip
    return Capacity.of(Topology(tuple(nodes)), max_jobs=100_000)


def a_spec(number: int, mean_cpus: float) -> JobSpec:
    """One of 30 shapes in one of four queues; one in 150 jobs needs several memory nodes."""
    shape = number * 7 % SHAPES
    usual = max(1, round(mean_cpus * (0.5 + shape % 3 / 2)))
    width = {0: NODES + 32, 150: 2 * NODES}.get(number % 300, usual)
    return JobSpec(
        name=f"job-{number}",
        command=("true",),
        queue=QUEUES[number % len(QUEUES)],
        time_limit_s=600.0 * (1 + shape) if shape % 3 == 0 else 0.0,
        resources=Resources(cpus=float(width), memory_bytes=(1 + shape) * GIB // 8),
    )


@dataclass
class Life:
    """A host, its queue, and what happens."""

    world: World
    random: random.Random
    mean_cpus: float
    records: dict[int, Record] = field(default_factory=dict)
    running: list[int] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    now: float = 1e6
    last: int = 0
    preempted: int = 0

    def happen(self, event: ev.Event) -> None:
        before = self.records.get(event.job)
        self.records[event.job] = after = advance(before, event)
        self.world.apply(event, before, after)
        if after.state.final and after.cleaned:
            del self.records[event.job]

    def submitted(self) -> ev.Event:
        self.last += 1
        owner = Owner(1000 + self.last % USERS, 1000, name=f"user{self.last % USERS}")
        self.queued.append(self.last)
        return ev.Submitted(self.last, a_spec(self.last, self.mean_cpus), owner, self.now)

    def next_event(self, number: int) -> list[ev.Event]:
        self.now += 0.1
        if number % 3 == 0 and self.running:
            job = self.running.pop(self.random.randrange(len(self.running)))
            execution = str(self.records[job].execution)
            return [ev.Exited(job, execution, 0, "", 1.0, ev.Usage(), self.now), ev.CleanedUp(job, execution)]
        if number % 3 == 1:
            return [self.submitted()]
        job = self.random.choice(self.queued)
        return [ev.PriorityChanged(job, urgency=self.random.randrange(100))]

    def decide(self) -> Decision:
        self.world.tick(self.now)
        return decide(self.world, self.now, {})

    def obey(self, decision: Decision) -> None:
        """As a node would that needs no time for it."""
        for action in decision.actions:
            job, execution = action.job, str(self.records[action.job].execution)
            if isinstance(action, Place):
                self.queued.remove(job)
                execution = f"{job}.0.{self.records[job].attempt + 1}"
                self.happen(ev.Placed(job, execution, action.placement, self.now))
                self.happen(ev.Started(job, execution, self.now))
                self.running.append(job)
            elif isinstance(action, ThawPlace):
                self.happen(ev.ThawPlaced(job, execution, action.placement, self.now))
                self.happen(ev.Thawed(job, execution, 0.001, self.now))
                self.running.append(job)
            elif isinstance(action, Preempt):
                self.happen(ev.Preempted(job, execution, action.by, action.resident_bytes, self.now))
                self.happen(ev.Frozen(job, execution, 0.001, 1.0, action.resident_bytes // 2, self.now))
                self.running.remove(job)
                self.preempted += 1


def a_life(queued: int, running: int, cpus: int) -> Life:
    policy = Policy(tuple(Queue(name, points=points) for points, name in enumerate(QUEUES)))
    life = Life(World.of(a_capacity(cpus), policy=policy, now=1e6), random.Random(7), cpus / running)
    for _ in range(queued + running):
        life.now += 0.01
        life.happen(life.submitted())
    while (decision := life.decide()).actions:
        life.obey(decision)
    while len(life.queued) < queued:
        life.happen(life.submitted())
    life.now += policy.preemption.least_run_s
    return life


def measure(life: Life, events: int) -> tuple[list[float], list[float]]:
    """Milliseconds, sorted: by the clock on the wall, and of CPU time."""
    gc.collect()
    gc.freeze()
    walls, cpus = [], []
    for number in range(events):
        happens = life.next_event(number)
        wall, cpu = time.perf_counter(), time.thread_time()
        for event in happens:
            life.happen(event)
        decision = life.decide()
        cpus.append((time.thread_time() - cpu) * 1000)
        walls.append((time.perf_counter() - wall) * 1000)
        life.obey(decision)
    gc.unfreeze()
    return sorted(walls), sorted(cpus)


def row(queued: int, running: int, cpus: int, events: int, *, cpu_time: bool) -> dict[str, float]:
    life = a_life(queued, running, cpus)
    walls, cpu_times = measure(life, events)
    print(f"{queued} queued, {len(life.running)} running, {len(life.world.frozen)} frozen, {life.preempted} preempted: "
          f"CPU ms p50 {_at(cpu_times, 0.5)} p99 {_at(cpu_times, 0.99)} most {cpu_times[-1]:.1f}, "
          f"wall ms p50 {_at(walls, 0.5)} p99 {_at(walls, 0.99)}", file=sys.stderr)  # fmt: skip
    times = cpu_times if cpu_time else walls
    return {
        "queued": queued,
        "running": len(life.running),
        "cpus": cpus,
        "round_ms_p50": _at(times, 0.5),
        "round_ms_p99": _at(times, 0.99),
    }


def _at(times: Sequence[float], part: float) -> float:
    return round(times[int(len(times) * part)], 3)


def bytes_per_job(queued: int, cpus: int) -> tuple[int, int]:
    """(scheduling memory of a queued job without its record, with record and spec)."""
    life = a_life(1, 64, cpus)
    tracemalloc.start()
    events = [life.submitted() for _ in range(queued)]
    records = [advance(None, event) for event in events]
    made = tracemalloc.get_traced_memory()[0]
    for event, record in zip(events, records, strict=True):
        life.world.apply(event, None, record)
    known = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (known - made) // queued, known // queued


def why(queued: int, running: int, cpus: int) -> None:
    life = a_life(queued, running, cpus)
    world, now = life.world, life.now
    world.tick(now)
    waiting = sorted((record for record in world.live.values() if record.job in world.lines), key=world.standing)
    print(f"{'queued':>9} {'place':>9} {'verdict':>8} {'CPU s':>7} {'with changes':>12} {'rounds':>7}")
    for place in (0, len(waiting) // 2, len(waiting) - 1):
        began = time.process_time()
        found = answer(world, waiting[place], now)
        told = time.process_time()
        tries = sum(1 for each in cheapest(world, waiting[place], found.explanation, now) if each is None)
        ended = time.process_time()
        verdict = type(found.explanation.verdict).__name__
        print(f"{queued:9} {place:9} {verdict:>8} {told - began:7.3f} {ended - began:12.3f} {tries:7}")


def profile(queued: int, running: int, cpus: int, events: int) -> None:
    life, profiler = a_life(queued, running, cpus), cProfile.Profile()
    for number in range(events):
        happens = life.next_event(number)
        profiler.enable()
        for event in happens:
            life.happen(event)
        decision = life.decide()
        profiler.disable()
        life.obey(decision)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def plot(rows: Sequence[dict[str, float]], key: str) -> str:
    """Log-log SVG: milliseconds against `key`, p50 and p99."""
    width, height, left, low = 640, 400, 60, 40
    xs = [row[key] for row in rows]
    ys = [row[name] for row in rows for name in ("round_ms_p50", "round_ms_p99")]
    x_low, x_high, y_low, y_high = min(xs), max(xs), 0.01, 1000.0

    def x(value: float) -> float:
        return left + (width - left - 20) * (log10(value / x_low) / max(0.3, log10(x_high / x_low)))

    def y(value: float) -> float:
        return height - low - (height - 2 * low) * log10(max(value, y_low) / y_low) / log10(y_high / y_low)

    assert max(ys) <= y_high
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for tick in (0.01, 0.1, 1, 10, 20, 100, 1000):
        colour = "#c00" if tick == 20 else "#ccc"
        parts.append(f'<path d="M{left} {y(tick):.1f}H{width - 20}" stroke="{colour}"/>'
                     f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g} ms</text>')  # fmt: skip
    for value in xs:
        parts.append(f'<text x="{x(value):.1f}" y="{height - 20}" text-anchor="middle">{value:,.0f}</text>')
    for name, colour in (("round_ms_p50", "#06c"), ("round_ms_p99", "#c60")):
        points = " ".join(f"{x(row[key]):.1f},{y(row[name]):.1f}" for row in rows)
        label = f'<text x="{width - 20}" y="{y(rows[-1][name]) - 6:.1f}" text-anchor="end">{name[-3:]}</text>'
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>{label}')
    parts.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">{key}</text></svg>')
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queued", default="1000,10000,100000,1000000")
    parser.add_argument("--running", type=int, default=1000)
    parser.add_argument("--against-running", default="", help="numbers of running jobs, with the first --queued")
    parser.add_argument("--cpus", type=int, default=4096, help=f"on {NODES} memory nodes")
    parser.add_argument("--events", type=int, default=600)
    parser.add_argument("--cpu-time", action="store_true", help="not the wall clock: where others run too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--profile", action="store_true", help="of the longest queue, instead")
    parser.add_argument("--why", action="store_true", help="what an explanation costs, with the longest queue, instead")
    given = parser.parse_args()
    lengths = [int(number) for number in given.queued.split(",")]
    if given.why:
        return why(max(lengths), given.running, given.cpus)
    if given.profile:
        return profile(max(lengths), given.running, given.cpus, given.events)
    numbers = [int(number) for number in given.against_running.split(",") if number]
    pairs = [(lengths[0], number) for number in numbers] or [(length, given.running) for length in lengths]
    rows = [row(queued, running, given.cpus, given.events, cpu_time=given.cpu_time) for queued, running in pairs]
    if given.plot:
        given.plot.write_text(plot(rows, "running" if numbers else "queued"))
    if given.json:
        print(json.dumps(rows))
        return None
    print(f"{'queued':>9} {'running':>8} {'CPUs':>6} {'p50 ms':>8} {'p99 ms':>8}")
    for each in rows:
        queued, running, cpus, p50, p99 = each.values()
        print(f"{queued:9} {running:8} {cpus:6} {p50:8} {p99:8}")
    without, whole = bytes_per_job(20_000, given.cpus)
    print(f"memory of a queued job: {without} bytes of scheduling, {whole} bytes with its record and spec")
    return None


if __name__ == "__main__":
    main()
