"""Alternatives of a job: the first that finds room is taken, kept while frozen, and what everything else goes by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.events import Exited, Usage
from jobs.host import HostCaps
from jobs.record import State
from jobs.spec import JobSpec, Resources, Retry, Variant, resolved
from jobs.verdict import Never, NotNow
from scheduler.admission import never
from scheduler.allocate import allocate
from scheduler.capacity import Ledger, hold_of
from scheduler.demand import demands_of, thaw_demand
from scheduler.limits import used_by
from tests.builders import GIB, MIB, History, a_capacity, a_job, gpus
from tests.fakes.simulation import Simulation

CAPS = HostCaps("", "", {}, "/sys/fs/cgroup", "v2", frozenset({"net"}))
ON_GPU = Resources(cpus=1, memory_bytes=GIB, generic=(("gpu", 1),))
ON_CPUS = Resources(cpus=3, memory_bytes=2 * GIB)


def either(**spec: Any) -> JobSpec:
    """One CPU with a GPU, else three CPUs."""
    return replace(a_job(**spec), resources=ON_GPU, variants=(Variant(ON_CPUS, "spread", "whole"),))


def a_simulation(**host: Any) -> Simulation:
    return Simulation(a_capacity(generic=[gpus(0)], **host))


def test_resolved() -> None:
    spec = either(name="x")
    assert resolved(spec, 0) is spec
    other = resolved(spec, 1)
    assert (other.resources, other.numa, other.cores, other.name) == (ON_CPUS, "spread", "whole", "x")


def test_the_first_that_finds_room_is_taken() -> None:
    sim = a_simulation(cpus_per_node=8)
    first, second = sim.submit(either()), sim.submit(either())
    sim.round()
    assert [sim.records[job].variant for job in (first, second)] == [0, 1]
    place = sim.records[second].placement
    assert place is not None
    assert (len(place.cpus), place.memory_bytes, place.generic, place.variant) == (3, 2 * GIB, (), 1)
    assert sim.records[second].wanted.resources == ON_CPUS
    assert used_by(sim.records[second]) == (1, 3000, 2 * GIB)


def test_a_frozen_job_comes_back_as_what_it_was() -> None:
    life = History(1)
    life.record = replace(life.record, spec=either())
    sim = a_simulation(cpus_per_node=8)
    sim.submit(either())
    job = sim.submit(either())
    sim.round()
    place = sim.records[job].placement
    assert place is not None
    life = life.placed(placement=place).started().paused().frozen(resident=MIB)
    demand = thaw_demand(life.record)
    assert (demand.variant, demand.cpus, demand.whole_cores) == (1, 3, True)
    assert hold_of(life.record).memory == ((0, MIB),)
    life = life.thaw_placed(placement=replace(place, cpus=(5, 6, 7)))
    assert life.record.variant == 1


def test_a_retry_may_be_started_as_another_one_with_the_memory_that_it_asks_for() -> None:
    life = History(1)
    retry = Retry(1, memory_factor=4, memory_most_bytes=3 * GIB)
    life.record = replace(life.record, spec=replace(either(), retry=retry))
    found = allocate(Ledger(a_capacity(generic=[gpus(0)])), demands_of(life.record)[0])
    life = life.placed(placement=found).started()
    event = Exited(1, str(life.record.execution), status=137, cause="oom", ran_s=20.0, usage=Usage(), at=0.0)
    life = life.then(event)
    assert life.record.state is State.QUEUED
    assert [demand.memory_bytes for demand in demands_of(life.record)] == [3 * GIB, 3 * GIB]


def test_why_names_each_alternative() -> None:
    sim = a_simulation(cpus_per_node=4)
    sim.submit(replace(a_job(), resources=replace(ON_GPU, cpus=2)))
    sim.round()
    job = sim.submit(either())
    verdict = sim.round().verdict(sim.records[job])
    assert isinstance(verdict, NotNow)
    assert [str(reason) for reason in verdict.reasons] == [
        "generic:gpu: 1 wanted, 0 free, held by job 1",
        "variant 1: cpus: 3 on whole cores wanted, 2 free, held by job 1",
    ]


@pytest.mark.parametrize("generic, said", [([gpus(0)], ()), ([], (
    "resources.generic.gpu: this host has no such resource; it has none",
    "variant 1: resources.cpus: 3 wanted, this host has 2",
))])  # fmt: skip
def test_never_only_if_no_alternative_could_run(generic: Any, said: tuple[str, ...]) -> None:
    assert never(either(), a_capacity(cpus_per_node=2, generic=generic), CAPS) == said


def test_never_of_a_job_that_was_accepted_elsewhere() -> None:
    sim = Simulation(a_capacity(cpus_per_node=2))
    job = sim.submit(either())
    assert sim.round().verdict(sim.records[job]) == Never(
        "resources.generic.gpu: this host has no such resource; it has none; "
        "variant 1: resources.cpus: 3 wanted, this host has 2"
    )
