"""Hypothesis strategies for the vocabulary: any spec, any event, any record that a life can lead to."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from jobs import events as ev
from jobs.array import Array
from jobs.host import Cache, CoreKind, Generic, Instance, NumaNode, Package, Topology, Withheld
from jobs.needs import Need, Outcome
from jobs.placement import Placement
from jobs.policy import Limits, Policy, Preemption, Queue, Reservation, Share, Window
from jobs.priority_class import PriorityClass
from jobs.spec import (
    Depends,
    Image,
    Io,
    JobSpec,
    Moment,
    Mount,
    Network,
    Publish,
    Resources,
    Retry,
    Stop,
    Variant,
    Warn,
)

# Any text that TOML can bring: no surrogates.
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
TIMES = st.floats(0, 4e9, allow_nan=False)
SIZES = st.integers(0, 1 << 60)
SMALL = st.integers(0, 1 << 20)

RESOURCES = st.builds(
    Resources,
    cpus=st.one_of(st.integers(1, 512).map(float), st.floats(0.001, 64)),
    memory_bytes=SIZES,
    memory_high_bytes=SIZES,
    memory_min_bytes=SIZES,
    swap_bytes=SIZES,
    pids=SMALL,
    cpu_weight=st.integers(1, 10000),
    io=st.builds(Io, st.integers(1, 10000), st.integers(-1, 1 << 40), st.integers(-1, 1 << 40)),
    hugepages=st.lists(st.tuples(SIZES, SMALL), max_size=2).map(tuple),
    devices=st.lists(TEXT, max_size=2).map(tuple),
    generic=st.lists(st.tuples(TEXT, SMALL), max_size=2).map(tuple),
)
NUMA = st.one_of(st.sampled_from(["local", "spread", "any"]), st.lists(SMALL, min_size=1, max_size=3).map(tuple))
NETWORKS = st.builds(
    Network,
    mode=st.sampled_from(["bridge", "host", "none"]),
    priority_class=st.sampled_from(PriorityClass),
    publish=st.lists(st.builds(Publish, st.integers(1, 65535), st.integers(1, 65535), st.sampled_from(["tcp", "udp"])),
                     max_size=2).map(tuple),
    rate_bits_s=SIZES,
)  # fmt: skip
WANTED = st.lists(st.one_of(st.integers(1, 1 << 40), TEXT), max_size=2).map(tuple)
RETRIES = st.builds(
    Retry,
    most=st.integers(0, 9),
    on=st.lists(st.sampled_from(["exit", "signal", "oom", "start", 75, "SEGV"])).map(tuple),
    backoff_s=TIMES,
    factor=st.floats(1, 100),
    backoff_most_s=TIMES,
    memory_factor=st.floats(1, 100),
    memory_most_bytes=SIZES,
    crash_limit=SMALL,
    crash_within_s=TIMES,
)
SPECS: st.SearchStrategy[JobSpec] = st.builds(
    JobSpec,
    name=TEXT,
    command=st.lists(TEXT, max_size=3).map(tuple),
    script=TEXT,
    workdir=TEXT,
    run_as=TEXT,
    submit_dir=st.sampled_from(["none", "ro", "rw"]),
    priority=st.integers(0, 100),
    time_limit_s=TIMES,
    on_lost=st.sampled_from(["fail", "requeue"]),
    stop=st.builds(Stop, TEXT, TIMES),
    env=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    image=st.builds(Image, TEXT, SIZES),
    resources=RESOURCES,
    numa=NUMA,
    cores=st.sampled_from(["shared", "whole"]),
    network=NETWORKS,
    mounts=st.lists(st.builds(Mount, TEXT, TEXT, st.sampled_from(["ro", "rw"])), max_size=2).map(tuple),
    queue=TEXT,
    account=TEXT,
    depends=st.builds(
        Depends, WANTED, WANTED, WANTED, WANTED, WANTED, st.booleans(), st.sampled_from(["cancel", "wait"])
    ),
    array=st.none() | st.builds(Array, st.just(((0, 9, 3), (12, 12, 1))), SMALL),
    submitted_from=TEXT,
    variants=st.lists(st.builds(Variant, RESOURCES, NUMA, st.sampled_from(["shared", "whole"])), max_size=2).map(tuple),
    begin=st.builds(Moment, TIMES, TIMES),
    deadline=st.builds(Moment, TIMES, TIMES),
    warn=st.builds(Warn, TEXT, TIMES),
    retry=RETRIES,
    checkpoint_exit_code=st.integers(0, 255),
)
PLACEMENTS = st.builds(
    Placement,
    node_id=TEXT,
    cpus=st.lists(SMALL, max_size=3).map(tuple),
    mems=st.lists(SMALL, max_size=3).map(tuple),
    exclusive=st.booleans(),
    shares=st.floats(0, 64),
    memory_bytes=SIZES,
    memory=st.lists(st.tuples(SMALL, SIZES), max_size=2).map(tuple),
    hugepages=st.lists(st.tuples(SMALL, SIZES, SMALL), max_size=2).map(tuple),
    idle=st.lists(SMALL, max_size=3).map(tuple),
    generic=st.lists(st.tuples(TEXT, st.lists(SMALL, max_size=2).map(tuple)), max_size=2).map(tuple),
    given_back=st.lists(TEXT, max_size=1).map(tuple),
    devices=st.lists(TEXT, max_size=2).map(tuple),
    variant=st.integers(0, 2),
)
LIMITS = st.builds(Limits, SMALL, TIMES, SIZES)
NAMES = st.lists(TEXT, max_size=2).map(tuple)
QUEUES = st.builds(
    Queue,
    name=TEXT,
    points=SMALL,
    preempt=st.sampled_from(["never", "freeze", "requeue"]),
    preemptible=st.booleans(),
    total=LIMITS,
    per_user=LIMITS,
    per_job=LIMITS,
    estimate_s=TIMES,
    default_limit_s=TIMES,
    most_limit_s=TIMES,
    users=NAMES,
    groups=NAMES,
    windows=st.lists(st.builds(Window, st.just((0, 6)), SMALL, SMALL), max_size=2).map(tuple),
    state=st.sampled_from(["open", "drained"]),
)
RESERVATIONS = st.builds(Reservation, TEXT, TIMES, TIMES, TIMES, SMALL, NAMES, TEXT)
POLICIES = st.builds(
    Policy,
    queues=st.lists(QUEUES, max_size=2).map(tuple),
    shares=st.lists(st.builds(Share, TEXT, TEXT, TIMES), max_size=2).map(tuple),
    reservations=st.lists(RESERVATIONS, max_size=2).map(tuple),
    backfill=st.sampled_from(["off", "easy", "conservative"]),
    backfill_depth=SMALL,
    share_points=TIMES,
    half_life_s=TIMES,
    step_s=TIMES,
    timezone=TEXT,
    preemption=st.builds(Preemption, SMALL, TIMES, SMALL),
)
CPUS = st.lists(SMALL, max_size=3).map(tuple)
TOPOLOGIES = st.builds(
    Topology,
    nodes=st.lists(st.builds(NumaNode, SMALL, CPUS, SIZES, st.just(((0, 10), (1, 20)))), max_size=2).map(tuple),
    siblings=st.lists(CPUS, max_size=2).map(tuple),
    caches=st.lists(st.builds(Cache), max_size=1).map(tuple),
    kinds=st.lists(st.builds(CoreKind, TEXT, CPUS), max_size=2).map(tuple),
    packages=st.lists(st.builds(Package, SMALL, CPUS, st.just(((0, 1), (2,)))), max_size=1).map(tuple),
    withheld=st.lists(st.builds(Withheld, SMALL, st.sampled_from(["offline", "outside"])), max_size=1).map(tuple),
    model=TEXT,
    generic=st.lists(st.builds(Generic, TEXT, st.just((Instance(("/dev/gpu0",), 0), Instance()))), max_size=1).map(
        tuple
    ),
)
_BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    "int": SMALL,
    "float": TIMES,
    "str": TEXT,
    "bool": st.booleans(),
    "int | None": st.none() | SMALL,
    "str | None": st.none() | TEXT,
    "tuple[Need, ...]": st.lists(
        st.builds(Need, TEXT, SMALL, TEXT, st.sampled_from(Outcome), TEXT, st.just(((0, 1), (3, 3)))), max_size=3
    ).map(tuple),
    "tuple[int, ...]": st.lists(SMALL, max_size=3).map(tuple),
    "tuple[str, ...]": st.lists(TEXT, max_size=3).map(tuple),
    "JobSpec": SPECS,
    "Owner": st.builds(ev.Owner, SMALL, SMALL, st.lists(SMALL, max_size=3).map(tuple), TEXT),
    "Placement": PLACEMENTS,
    "Policy": POLICIES,
    "QueueState": st.sampled_from(["open", "drained"]),
    "Reservation": RESERVATIONS,
    "Topology": TOPOLOGIES,
    "Usage": st.builds(ev.Usage, cpu_s=TIMES, memory_peak_bytes=SIZES, stdout_bytes=SIZES),
}


def events_of(cls: type[ev.Event]) -> st.SearchStrategy[ev.Event]:
    """A field of a type that is not listed is a KeyError: a new event must be drawn whole."""
    return st.builds(cls, **{name: _BY_TYPE[str(kind)] for name, kind in _annotations(cls).items()})


def _annotations(cls: type[ev.Event]) -> dict[str, Any]:
    found = {"job": "int"}
    for base in reversed(cls.__mro__):
        found |= {name: kind for name, kind in getattr(base, "__annotations__", {}).items() if name != "kind"}
    return found


EVENTS: st.SearchStrategy[ev.Event] = st.one_of([events_of(cls) for cls in ev.KINDS.values()])
