"""Resources that an operator names: what the settings say, what a host has, and who gets which."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from config.generic import read
from config.settings import BadSetting, Settings, load, merge
from jobs.host import Generic, HostCaps, Instance, Topology, topology_from_json
from jobs.placement import Placement
from jobs.spec import Resources
from scheduler.admission import never
from scheduler.allocate import allocate
from scheduler.capacity import Ledger, Overcommitted, hold_for, hold_of
from scheduler.demand import demand_of, thaw_demand
from scheduler.earmark import keep
from scheduler.generic import Look, missing, present, variables
from scheduler.shortage import reasons
from tests.builders import History, a_capacity, a_job, gpus, licences

# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tables_are_read() -> None:
    gpu, licence = read(
        {"licence": {"count": 5, "release_when_frozen": True},
         "gpu": {"devices": [["/dev/nvidia0", "/dev/nvidiactl"], "/dev/nvidia1"], "numa": [0, 1], "env": "GPUS"}}
    )  # fmt: skip
    assert (gpu.name, gpu.devices) == ("gpu", (("/dev/nvidia0", "/dev/nvidiactl"), ("/dev/nvidia1",)))
    assert (gpu.numa, gpu.env) == ((0, 1), "GPUS")
    assert (licence.name, licence.count, licence.release_when_frozen) == ("licence", 5, True)


@pytest.mark.parametrize(
    "given, said",
    [
        (3, "generic = 3 is not a table; write [generic.NAME] above its keys"),
        ({"gpu": 4}, "generic.gpu = 4 is not a table"),
        ({"GPU": {"count": 1}}, "generic.GPU: a name has a to z, 0 to 9 and _, begins with a letter, and at most 32"),
        ({"gpu": {}}, "generic.gpu: needs either count or devices"),
        ({"gpu": {"count": 1, "devices": "/dev/a"}}, "generic.gpu: needs either count or devices"),
        ({"gpu": {"cuont": 1}}, "generic.gpu: no key 'cuont'; keys are: count, devices, shared, numa, env, release"),
        ({"gpu": {"count": 0}}, "generic.gpu.count = 0 is not an integer from 1 to 4096"),
        ({"gpu": {"count": 0.5}}, "generic.gpu.count = 0.5 is not an integer from 1 to 4096"),
        ({"gpu": {"count": True}}, "generic.gpu.count = True is not an integer from 1 to 4096"),
        ({"gpu": {"devices": ["/etc/passwd"]}}, "generic.gpu.devices: '/etc/passwd' is not a path below /dev"),
        ({"gpu": {"devices": ["/dev/../etc"]}}, "generic.gpu.devices: '/dev/../etc' is not a path below /dev"),
        ({"gpu": {"devices": []}}, "generic.gpu.devices = [] is not a pattern such as"),
        ({"gpu": {"devices": [[]]}}, "generic.gpu.devices: an instance without device nodes"),
        ({"gpu": {"devices": ["/dev/a", "/dev/a"]}}, "generic.gpu.devices: two instances begin with the same node"),
        ({"gpu": {"count": 2, "numa": [0]}}, "generic.gpu.numa has 1 nodes for 2 instances; needs one for each"),
        ({"gpu": {"count": 2, "numa": ["0", 1]}}, "generic.gpu.numa = ['0', 1] is not a list of memory nodes"),
        ({"gpu": {"count": 2, "shared": ["/dev/a"]}}, "generic.gpu.shared: only with devices"),
        ({"gpu": {"devices": "/dev/a*", "release_when_frozen": True}}, "generic.gpu.release_when_frozen: not with dev"),
        ({"gpu": {"count": 2, "release_when_frozen": "yes"}}, "generic.gpu.release_when_frozen = 'yes' is not true or"),
        ({"gpu": {"count": 2, "env": "A B"}}, "generic.gpu.env = 'A B' is not a variable's name"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table(given: Any, said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        merge("jobs.toml", Settings(), {"generic": given})
    assert str(caught.value).startswith(f"jobs.toml: {said}")


def test_no_variable_holds_a_table() -> None:
    assert load(environ={"JOBS_GENERIC": "3", "JOBS_CONFIG": "/dev/null"}).generic == ()


# ── what there is ───────────────────────────────────────────────────────────────────────────────────────────────────

NUMBERS = {"/dev/gpu2": "char/9:2", "/dev/gpu10": "char/9:10", "/dev/gpuctl": "char/9:255", "/dev/disk": "block/8:0"}
FILES = {"/sys/dev/char/9:2/device/numa_node": "1\n", "/sys/dev/char/9:10/device/numa_node": "-1\n",
         "/sys/dev/block/8:0/device/device/numa_node": "0\n"}  # fmt: skip


def read_file(path: str) -> str:
    if path not in FILES:
        raise FileNotFoundError(path)
    return FILES[path]


LOOK = Look(
    matches=lambda pattern: ["/dev/gpuctl", "/dev/gpu10", "/dev/gpu2", "/dev/gpus-of-mine"],
    number=lambda path: NUMBERS.get(path, ""),
    read=read_file,
)


def host_has(**tables: Any) -> tuple[Generic, ...]:
    return present(read(tables), LOOK)


def test_a_pattern_finds_device_nodes_in_the_order_of_their_numbers() -> None:
    (gpu,) = host_has(gpu={"devices": "/dev/gpu*", "shared": ["/dev/gpuctl"]})
    assert gpu.instances == (
        Instance(("/dev/gpu2", "/dev/gpuctl"), 1),
        Instance(("/dev/gpu10", "/dev/gpuctl"), -1),
    )


def test_the_bus_tells_the_node_unless_the_settings_do() -> None:
    assert host_has(disk={"devices": ["/dev/disk"]})[0].instances[0].node == 0, "the disk's controller is on the bus"
    assert host_has(gpu={"devices": ["/dev/gpu2"], "numa": [0]})[0].instances[0].node == 0
    assert [each.node for each in host_has(licence={"count": 2, "numa": [1, 0]})[0].instances] == [1, 0]


def test_an_instance_that_is_not_there_keeps_its_number_and_is_told() -> None:
    found = host_has(gpu={"devices": ["/dev/gpu1", "/dev/gpu2"]})
    assert [each.there for each in found[0].instances] == [False, True]
    assert missing(found) == ["generic.gpu: instance 0 is left out: no device node /dev/gpu1"]
    ledger = Ledger(a_capacity(generic=found))
    placement = allocate(ledger, demand_of(a_job(generic={"gpu": 1})))
    assert placement is not None
    assert placement.generic == (("gpu", (1,)),)


def test_a_topology_with_them_goes_round_trip() -> None:
    topology = Topology((), generic=(gpus(0, 1), licences(2, release_when_frozen=True)))
    assert topology_from_json(asdict(topology)) == topology


# ── who gets which ──────────────────────────────────────────────────────────────────────────────────────────────────


def place(ledger: Ledger, job: int = 0, **wanted: Any) -> Placement | None:
    """Charged to `job`, if one is given."""
    found = allocate(ledger, demand_of(a_job(**wanted)))
    if found is not None and job:
        ledger.charge(job, hold_for(found))
    return found


def granted(ledger: Ledger, job: int = 0, **wanted: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(CPUs, GPUs)"""
    found = place(ledger, job, **wanted)
    return (found.cpus, dict(found.generic).get("gpu", ())) if found else None


def test_each_instance_is_given_once() -> None:
    ledger = Ledger(a_capacity(cpus_per_node=8, generic=[gpus(0, 0, 0)]))
    assert granted(ledger, 1, generic={"gpu": 2}) == ((0,), (0, 1))
    assert granted(ledger, 2, generic={"gpu": 1}) == ((1,), (2,))
    assert granted(ledger, generic={"gpu": 1}) is None
    assert granted(ledger) == ((2,), ()), "a job that wants none still runs"
    ledger.release(1)
    assert granted(ledger, generic={"gpu": 1}) == ((0,), (0,))


def test_cpus_are_near_the_devices() -> None:
    ledger = Ledger(a_capacity(nodes=2, generic=[gpus(1)]))
    assert granted(ledger, generic={"gpu": 1}) == ((4,), (0,))
    assert granted(ledger, cpus=4, generic={"gpu": 1}) == ((4, 5, 6, 7), (0,))


def test_a_device_far_away_is_better_than_none() -> None:
    ledger = Ledger(a_capacity(nodes=2, generic=[gpus(1)]))
    assert granted(ledger, 1, cpus=4, numa=(1,)) == ((4, 5, 6, 7), ())
    assert granted(ledger, generic={"gpu": 1}) == ((0,), (0,))


def test_devices_are_taken_from_as_few_nodes_as_possible() -> None:
    ledger = Ledger(a_capacity(nodes=2, generic=[gpus(0, 1, 1, 0, 0)]))
    assert granted(ledger, generic={"gpu": 2}) == ((4,), (1, 2)), "the node that has just two"
    assert granted(ledger, generic={"gpu": 3}) == ((0,), (0, 3, 4))
    assert granted(ledger, generic={"gpu": 4}) == ((0,), (0, 1, 3, 4)), "the others are on the other node"


def test_jobs_that_want_none_leave_the_cpus_near_devices_alone() -> None:
    ledger = Ledger(a_capacity(nodes=2, generic=[gpus(0)]))
    assert granted(ledger) == ((4,), ())
    assert granted(ledger, 1, generic={"gpu": 1}) == ((0,), (0,))
    assert granted(ledger) == ((1,), ()), "once the device is taken, the tightest node again"


def test_device_nodes_come_with_the_placement_each_once() -> None:
    placement = place(Ledger(a_capacity(generic=[gpus(0, 0), licences(3)])), generic={"gpu": 2, "licence": 1})
    assert placement is not None
    assert placement.generic == (("gpu", (0, 1)), ("licence", (0,)))
    assert placement.devices == ("/dev/gpu0", "/dev/gpuctl", "/dev/gpu1")


def test_a_charge_of_one_that_is_taken_raises_and_changes_nothing() -> None:
    ledger = Ledger(a_capacity(generic=[gpus(0)]))
    placement = place(ledger, 1, generic={"gpu": 1})
    assert placement is not None
    other = replace(placement, cpus=(3,))
    assert ledger.refusal(other) == "gpu 0 is not free"
    before = ledger.copy()
    with pytest.raises(Overcommitted, match="gpu 0 for job 2 is not free: 1"):
        ledger.charge(2, hold_for(other))
    assert ledger == before


def test_room_that_is_kept_has_its_devices() -> None:
    ledger = Ledger(a_capacity(generic=[gpus(0, 0)]))
    place(ledger, 1, generic={"gpu": 1})
    claimed = allocate(Ledger(ledger.capacity), demand_of(a_job(generic={"gpu": 2})))
    assert claimed is not None
    keep(ledger, -1, claimed)
    assert granted(ledger, generic={"gpu": 1}) is None
    ledger.release(1)
    assert granted(ledger, generic={"gpu": 1}) is not None, "only what was free then is kept"


# ── freezing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def frozen_with(ledger: Ledger, *, keep_cpus: bool = False, **wanted: Any) -> History:
    placement = place(ledger, **wanted)
    assert placement is not None
    return History(1, **wanted).placed(placement=placement).started().paused(keep_cpus=keep_cpus).frozen()


@pytest.mark.parametrize("keep_cpus, held", [(False, (("gpu", 0),)), (True, (("gpu", 0), ("licence", 0)))])
def test_a_frozen_job_keeps_devices_and_gives_back_what_says_so(
    keep_cpus: bool, held: tuple[tuple[str, int], ...]
) -> None:
    ledger = Ledger(a_capacity(nodes=2, generic=[gpus(1), licences(1, release_when_frozen=True)]))
    life = frozen_with(ledger, keep_cpus=keep_cpus, generic={"gpu": 1, "licence": 1})
    assert hold_of(life.record).generic == held


def test_it_comes_back_with_its_devices_and_any_licence() -> None:
    ledger = Ledger(a_capacity(nodes=2, generic=[gpus(1, 0), licences(2, release_when_frozen=True)]))
    assert granted(ledger, 9, cpus=4, numa=(0,), generic={"gpu": 1}) is not None
    life = frozen_with(ledger, generic={"gpu": 1, "licence": 1})
    assert life.record.home is not None
    assert life.record.home.generic == (("gpu", (0,)), ("licence", (0,)))
    assert place(ledger, 8, generic={"licence": 1}) is not None
    back = allocate(ledger, thaw_demand(life.record), headroom=False)
    assert back is not None
    assert back.generic == (("gpu", (0,)), ("licence", (1,)))
    assert back.devices == ("/dev/gpu0", "/dev/gpuctl")
    assert back.given_back == ("licence",)
    assert back.cpus == (5,), "near the device that it has"


def test_it_stays_frozen_while_its_licence_is_with_another() -> None:
    ledger = Ledger(a_capacity(generic=[licences(1, release_when_frozen=True)]))
    life = frozen_with(ledger, generic={"licence": 1})
    assert place(ledger, 8, generic={"licence": 1}) is not None
    demand = thaw_demand(life.record)
    assert allocate(ledger, demand, headroom=False) is None
    assert [str(reason) for reason in reasons(ledger, demand, 1, headroom=False)] == [
        "generic:licence: 1 wanted, 0 free, held by job 8"
    ]


# ── why not ─────────────────────────────────────────────────────────────────────────────────────────────────────────

CAPS = HostCaps("", "", {}, "/sys/fs/cgroup", "v2", frozenset({"net"}))


@pytest.mark.parametrize(
    "wanted, said",
    [
        ({"gpu": 2}, "resources.generic.gpu: 2 wanted, this host has 1"),
        ({"tpu": 1}, "resources.generic.tpu: this host has no such resource; it has gpu, licence"),
    ],
)
def test_never(wanted: dict[str, int], said: str) -> None:
    assert never(a_job(generic=wanted), a_capacity(generic=[gpus(0), licences(2)]), CAPS) == (said,)


def test_never_where_nothing_is_named() -> None:
    said = "resources.generic.gpu: this host has no such resource; it has none"
    assert never(a_job(generic={"gpu": 1}), a_capacity(), CAPS) == (said,)


def test_a_device_that_is_given_by_number_is_not_to_be_had_by_path() -> None:
    spec = replace(a_job(), resources=Resources(devices=("/dev/fuse", "/dev/gpu0")))
    said = "resources.devices: /dev/gpu0 belongs to 'gpu'; ask for it with resources.generic.gpu"
    assert never(spec, a_capacity(generic=[gpus(0)]), CAPS) == (said,)


def test_who_has_them() -> None:
    ledger = Ledger(a_capacity(generic=[gpus(0, 0)]))
    place(ledger, 7, generic={"gpu": 1})
    assert [str(reason) for reason in reasons(ledger, demand_of(a_job(generic={"gpu": 2})), 9)] == [
        "generic:gpu: 2 wanted, 1 free, held by job 7"
    ]


# ── what the job is told ────────────────────────────────────────────────────────────────────────────────────────────


def test_variables() -> None:
    gpu, licence = replace(gpus(0, 0, 0), env="CUDA_VISIBLE_DEVICES"), replace(licences(4), env="SEAT")
    known = (gpu, licence, licences(1, name="x"))
    told = dict(variables((("gpu", (0, 2)), ("licence", (3,)), ("x", (0,)), ("gone", (5,))), known))
    assert told == {
        "JOBS_GENERIC_GPU": "0,2",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "JOBS_GENERIC_LICENCE": "3",
        "SEAT": "3",
        "JOBS_GENERIC_X": "0",
        "JOBS_GENERIC_GONE": "5",
    }
