"""Good specs: what each key becomes, and --set."""

from __future__ import annotations

import json
import os
import pwd
import time
from dataclasses import replace

import pytest

from jobs import specfile
from jobs.errors import SpecError
from jobs.events import Owner
from jobs.placement import from_json as placement_from_json
from jobs.policy import DEFAULT_QUEUE
from jobs.priority_class import PriorityClass
from jobs.spec import (
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
    from_json,
    to_json,
)
from runtime.images.uppers import LEAST_BYTES
from tests.builders import ALICE, a_record

WHOLE = """
name = "encode"
command = ["xz", "-T0", "-k", "big.tar"]
workdir = "/data"
run_as = "me"
submit_dir = "none"
priority = 50
queue = "night"
account = "physics"
freeze_with = "solver"
time_limit = "2h"
stop = { signal = "TERM", grace = "30s" }
[env]
LEVEL = "9"
[image]
source = "host"
writable = "2GiB"
[resources]
cpus = 2
memory = "4GiB"
memory_high = "3GiB"
memory_min = "1GiB"
swap = "0"
pids = 512
cpu_weight = 100
io = { weight = 100, read = "100MiB/s", write = "50MiB/s" }
hugepages = { "2MiB" = 64 }
devices = ["/dev/fuse"]
[placement]
numa = "local"
cores = "whole"
[network]
mode = "bridge"
priority_class = "normal"
publish = ["8080:80/tcp"]
rate = "100mbit"
[[mounts]]
source = "/srv/data"
target = "/data"
mode = "rw"
"""


def parsed(*lines: str, sets: tuple[str, ...] = (), owner: Owner | None = None) -> JobSpec:
    text = "\n".join(
        ['name = "a"', *([] if any("script" in line for line in lines) else ['command = ["true"]']), *lines]
    )
    (spec,) = specfile.parse(text, file="t.toml", folder="/home/u", sets=sets, owner=owner)
    return spec


def test_every_key() -> None:
    (spec,) = specfile.parse(WHOLE, file="t.toml", folder="/home/u")
    assert spec == JobSpec(
        name="encode",
        command=("xz", "-T0", "-k", "big.tar"),
        workdir="/data",
        time_limit_s=7200.0,
        queue="night",
        account="physics",
        freeze_with="solver",
        stop=Stop("TERM", 30.0),
        env=(("LEVEL", "9"),),
        image=Image("host", 2 << 30),
        resources=Resources(
            cpus=2.0,
            memory_bytes=4 << 30,
            memory_high_bytes=3 << 30,
            memory_min_bytes=1 << 30,
            pids=512,
            io=Io(100, 100 << 20, 50 << 20),
            hugepages=((2 << 20, 64),),
            devices=("/dev/fuse",),
        ),
        cores="whole",
        network=Network("bridge", PriorityClass.NORMAL, (Publish(8080, 80, "tcp"),), 100_000_000),
        mounts=(Mount("/srv/data", "/data", "rw"),),
        submitted_from="/home/u",
    )
    assert from_json(to_json(spec)) == spec


def test_absent_keys_are_the_defaults_of_the_dataclass() -> None:
    assert parsed() == JobSpec(name="a", command=("true",), submitted_from="/home/u")


def test_windows_line_ends_are_line_ends() -> None:
    (spec,) = specfile.parse('name = "a"\r\ncommand = ["true"]\r\n', file="t.toml", folder="/")
    assert spec.command == ("true",)


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ('script = "#!/usr/bin/python3\\nprint()"', "#!/usr/bin/python3\nprint()"),
        ('script = "exit 3"', "#!/bin/sh\nexit 3"),
        ('script = """\n#!/bin/sh\nexit 3\n"""', "#!/bin/sh\nexit 3\n"),
    ],
)
def test_script(line: str, script: str) -> None:
    spec = parsed(line)
    assert (spec.script, spec.command) == (script, ())


@pytest.mark.parametrize(
    ("given", "run_as"),
    [
        ('"me"', "me"),
        ('"root"', "root"),
        ('"0"', "root"),
        ("0", "root"),
        ("1000", "1000"),
        ('"4294967294"', "4294967294"),
    ],
)
def test_run_as(given: str, run_as: str) -> None:
    assert parsed(f"run_as = {given}").run_as == run_as


@pytest.mark.parametrize(
    ("given", "cpus", "whole"), [("2", 2.0, True), ("0.5", 0.5, False), ("1.25", 1.25, False), ("3.0", 3.0, True)]
)
def test_cpus(given: str, cpus: float, whole: bool) -> None:
    resources = parsed(f"resources.cpus = {given}").resources
    assert (resources.cpus, resources.whole_cpus) == (cpus, whole)


def test_signal_with_and_without_sig() -> None:
    assert parsed('stop.signal = "SIGUSR1"').stop == parsed('stop.signal = "USR1"').stop == Stop("USR1", 30.0)


def test_ports() -> None:
    assert parsed('network.publish = ["80:8080", "53:53/udp", "53:53/tcp"]').network.publish == (
        Publish(80, 8080), Publish(53, 53, "udp"), Publish(53, 53, "tcp"),
    )  # fmt: skip


def test_a_spec_and_a_placement_written_before_whole_cores_still_load() -> None:
    old = to_json(parsed())
    del old["cores"]
    assert from_json(old) == parsed()
    placement = {"node_id": "one", "cpus": [0, 1], "mems": [0], "exclusive": True, "memory": [[0, 5]]}
    assert placement_from_json(placement).idle == ()


def test_a_spec_written_before_queues_waits_in_the_default_one_for_its_owner() -> None:
    old = to_json(parsed())
    del old["queue"], old["account"]
    assert from_json(old) == parsed()
    assert from_json(old).queue == DEFAULT_QUEUE and a_record().account == ALICE.name


def test_whole_cores_for_whole_cpus_however_written() -> None:
    assert parsed("placement.cores = 'whole'", "resources.cpus = 2.0").cores == "whole"


def test_numa_nodes_are_sorted() -> None:
    assert parsed("placement.numa = [3, 1]").numa == (1, 3)


def test_huge_pages_are_sorted_by_size() -> None:
    assert parsed('resources.hugepages = { "1GiB" = 1, "2MiB" = 4 }').resources.hugepages == (
        (2 << 20, 4),
        (1 << 30, 1),
    )


def test_the_smallest_writable_layer_is_one_that_can_be_made() -> None:
    assert parsed(f"image.writable = {LEAST_BYTES}").image.writable_bytes == LEAST_BYTES
    with pytest.raises(SpecError):
        parsed(f"image.writable = {LEAST_BYTES - 1}")


def test_mount_sources_start_from_the_folder_of_the_spec() -> None:
    spec = parsed('[[mounts]]\nsource = "../data"\ntarget = "/data//in/"')
    # ".." stays: behind a symbolic link only the kernel knows where it leads
    assert spec.mounts == (Mount("/home/u/../data", "/data/in", "ro"),)


def test_mount_sources_in_the_home_of_the_submitter() -> None:
    me = pwd.getpwuid(os.getuid())
    owner = Owner(me.pw_uid, me.pw_gid, (), me.pw_name)
    assert parsed('[[mounts]]\nsource = "~/data"\ntarget = "/d"', owner=owner).mounts[0].source == f"{me.pw_dir}/data"


def test_the_folder_of_submission_may_differ_from_the_folder_of_the_spec() -> None:
    (spec,) = specfile.parse(
        'name = "a"\ncommand = ["true"]\nsubmit_dir = "rw"\nmounts = [{ source = "in", target = "/in" }]',
        file="sub/t.toml", folder="/home/u/sub", submitted_from="/home/u",
    )  # fmt: skip
    assert (spec.submitted_from, spec.mounts[0].source) == ("/home/u", "/home/u/sub/in")


@pytest.mark.parametrize(
    ("option", "attribute", "value"),
    [
        ("priority=7", "priority", 7),
        ("name=b", "name", "b"),
        ('name="b"', "name", "b"),
        ("name = b", "name", "b"),
        ("resources.cpus=0.5", "resources", Resources(cpus=0.5)),
        ("resources.io={weight=3}", "resources", Resources(io=Io(weight=3))),
        ('command=["a", "b"]', "command", ("a", "b")),
        ("env.LEVEL=9", "env", (("LEVEL", "9"),)),
        ("env.LEVEL='9'", "env", (("LEVEL", "9"),)),
        ("env.EMPTY=", "env", (("EMPTY", ""),)),
        ("env.TWO=1\npriority = 3", "env", (("TWO", "1\npriority = 3"),)),
        ("env.SUM=a=b", "env", (("SUM", "a=b"),)),
        ("time_limit=90", "time_limit_s", 90.0),
        ('network.publish=["1:2"]', "network", Network(publish=(Publish(1, 2),))),
    ],
)
def test_set(option: str, attribute: str, value: object) -> None:
    assert getattr(parsed(sets=(option,)), attribute) == value


def test_set_replaces_the_file_and_the_last_one_wins() -> None:
    assert parsed("priority = 1", sets=("priority=2", "priority=3")).priority == 3


def test_set_reaches_elements_of_lists() -> None:
    mounts = '[[mounts]]\nsource = "/a"\ntarget = "/b"\n[[mounts]]\nsource = "/c"\ntarget = "/d"'
    assert parsed(mounts, sets=("mounts.1.mode=rw",)).mounts == (Mount("/a", "/b", "ro"), Mount("/c", "/d", "rw"))


def test_set_can_mend_a_wrong_value_of_the_file() -> None:
    assert parsed("priority = 1000", sets=("priority=2",)).priority == 2


def test_set_does_not_hide_other_mistakes() -> None:
    with pytest.raises(SpecError, match=r"^t\.toml:3: priority: 1000 is out of range"):
        parsed("priority = 1000", sets=("resources.cpus=2",))


def test_retries_and_what_they_may_ask_for() -> None:
    spec = parsed('checkpoint_exit_code = 85', "[retry]", "most = 3", 'on = ["oom", 75, "SIGSEGV", "ABRT"]',
                  'backoff = "1m"', "factor = 1.5", 'backoff_most = "1h"', "memory_factor = 2", 'memory_most = "8GiB"',
                  "crash_limit = 5", 'crash_within = "3s"')  # fmt: skip
    assert spec.retry == Retry(3, ("oom", 75, "SEGV", "ABRT"), 60.0, 1.5, 3600.0, 2.0, 8 << 30, 5, 3.0)
    assert spec.checkpoint_exit_code == 85
    assert from_json(json.loads(json.dumps(to_json(spec)))) == spec
    assert (parsed().retry, parsed().warn, parsed().begin, parsed().deadline) == (Retry(), Warn(), Moment(), Moment())


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ('"+90s"', Moment(after_s=90.0)), ('"+1h30m"', Moment(after_s=5400.0)),
        ('"2026-12-24T18:00:00Z"', Moment(at=1798135200.0)), ('"2026-12-24 19:00+01:00"', Moment(at=1798135200.0)),
        ("2026-12-24T18:00:00Z", Moment(at=1798135200.0)),
        ('"2026-12-24T18:00"', Moment(at=time.mktime((2026, 12, 24, 18, 0, 0, 0, 0, -1)))),
        ("2026-12-24", Moment(at=time.mktime((2026, 12, 24, 0, 0, 0, 0, 0, -1)))),
    ],
)  # fmt: skip
def test_times_with_and_without_a_zone_and_after_the_submission(written: str, moment: Moment) -> None:
    assert parsed(f"begin = {written}").begin == moment
    assert parsed(f"deadline = {written}").deadline == moment


def test_a_warning_before_the_end() -> None:
    assert parsed('time_limit = "1h"', 'warn = { signal = "SIGUSR2", before = "5m" }').warn == Warn("USR2", 300.0)


def test_a_spec_of_an_older_journal_has_none_of_what_came_later() -> None:
    old = json.loads(json.dumps(to_json(parsed())))
    for key in ("begin", "deadline", "warn", "retry", "checkpoint_exit_code"):
        del old[key]
    assert from_json(old) == parsed()


def test_generic_resources_by_name_and_none_of_0() -> None:
    spec = parsed("[resources]", "generic = { seat = 2, gpu = 1, tpu = 0 }")
    assert spec.resources.generic == (("gpu", 1), ("seat", 2))


def test_a_variant_has_what_it_leaves_out_from_the_spec() -> None:
    spec = parsed(
        "[resources]", "cpus = 2", 'memory = "4GiB"', "generic = { gpu = 1, seat = 1 }", 'hugepages = { "2MiB" = 3 }',
        "[placement]", 'cores = "whole"', "[[variant]]", "resources = { cpus = 16, generic = { gpu = 0, tpu = 1 } }",
        "[[variant]]", 'placement = { numa = "spread", cores = "shared" }',
        "[variant.resources]", 'memory = "8GiB"', 'hugepages = { "1GiB" = 1 }',
        sets=("variant.1.resources.swap=1GiB",),
    )  # fmt: skip
    base, pages = spec.resources, (2 << 20, 3)
    assert spec.variants == (
        Variant(replace(base, cpus=16, generic=(("seat", 1), ("tpu", 1))), "local", "whole"),
        Variant(replace(base, memory_bytes=8 << 30, hugepages=(pages, (1 << 30, 1)), swap_bytes=1 << 30), "spread"),
    )
    assert from_json(json.loads(json.dumps(to_json(spec)))) == spec


def test_a_spec_and_a_placement_written_before_generic_resources_still_load() -> None:
    spec = to_json(parsed())
    del spec["variants"], spec["resources"]["generic"]
    assert from_json(spec) == parsed()
    old = {"node_id": "n", "cpus": [1], "mems": [0], "exclusive": True}
    assert (placement_from_json(old).generic, placement_from_json(old).variant) == ((), 0)
