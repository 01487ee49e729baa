"""GPUs and licences on the real thing: the device nodes of its own and no others, one job each, kept while frozen."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation, wait_for

pytestmark = pytest.mark.needs("root", "cpus.2")

NODES = {0: (10, 229), 1: (10, 237)}  # fuse and loop-control: opening them changes nothing, and a job has neither


def node(number: int) -> str:
    return f"/dev/jobs-e2e-{os.getpid()}-{number}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    config: Path = tmp_path_factory.mktemp("generic") / "jobs.toml"
    config.write_text(
        f'[generic.gpu]\ndevices = ["{node(0)}", "{node(1)}"]\nenv = "VISIBLE"\n'
        "[generic.seat]\ncount = 1\nrelease_when_frozen = true\n"
    )
    for number, (major, minor) in NODES.items():
        os.mknod(node(number), stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(node(number), 0o666)
    try:
        with Installation(config=str(config)) as running:
            yield running
    finally:
        for number in NODES:
            os.unlink(node(number))


def asks(**generic: int) -> str:
    wanted = ", ".join(f"{name} = {count}" for name, count in generic.items())
    return f'[resources]\ncpus = 0.1\nmemory = "64MiB"\ngeneric = {{ {wanted} }}\n'


LOOK = f"""
ls -d /dev/jobs-e2e-* || echo none
for n in {node(0)} {node(1)}; do [ -c $n ] && (: <> $n) 2> /dev/null && echo "opens $n"; done
env | grep -E '^(JOBS_GENERIC|VISIBLE)' | sort
"""
WAIT = "echo ready; while ! [ -e /tmp/end ]; do sleep 0.1; done"


def ready(site: Installation, job: int) -> None:
    wait_for(lambda: "ready" in site.output(job), 60, site.logs)


def test_a_job_sees_what_it_has_and_nothing_else(site: Installation) -> None:
    one, both, without = (
        site.run_script(LOOK, asks(gpu=1)), site.run_script(LOOK, asks(gpu=2, seat=1)), site.run_script(LOOK)
    )  # fmt: skip
    assert site.wait(one, both, without) == 0, site.logs()
    found = site.output(one).split("\n")
    mine = int(found[0][-1])
    assert found[:-1] == [node(mine), f"opens {node(mine)}", f"JOBS_GENERIC_GPU={mine}", "VISIBLE=0"]
    assert site.output(both).splitlines() == [
        node(0), node(1), f"opens {node(0)}", f"opens {node(1)}",
        "JOBS_GENERIC_GPU=0,1", "JOBS_GENERIC_SEAT=0", "VISIBLE=0,1",
    ]  # fmt: skip
    assert site.output(without) == "none\n"


def test_one_job_each_and_a_frozen_one_keeps_its_device(site: Installation) -> None:
    first, second = site.run_script(WAIT, asks(gpu=1, seat=1)), site.run_script(WAIT, asks(gpu=1))
    ready(site, first)
    ready(site, second)
    assert {site.show(job)["generic"][0][1][0] for job in (first, second)} == {0, 1}
    third = site.run_script("true", asks(gpu=1))
    seated = site.run_script("true", asks(seat=1))
    wait_for(lambda: bool(site.show(third)["waits_for"]), 60, site.logs)
    assert site.show(third)["waits_for"] == [f"generic:gpu: 1 wanted, 0 free, held by job {first}, job {second}"]
    assert "gpu: 2, 0 free" in site.cli("topology").stdout
    site.cli("pause", str(first))
    assert site.wait(seated) == 0, "the seat was given back"
    assert site.show(first)["generic"] == [["gpu", [site.show(first)["generic"][0][1][0]]]]
    assert site.show(third)["state"] == "queued", "the device was not"
    site.cli("resume", str(first))
    site.until(first, "running")
    assert [name for name, _ in site.show(first)["generic"]] == ["gpu", "seat"]
    site.cli("cancel", "--kill", str(second))
    assert site.wait(third) == 0
    site.cli("cancel", "--kill", str(first))
    site.wait(first)


def test_what_there_is_not_is_refused(site: Installation) -> None:
    done = site.cli("submit", "-", input=f'name = "t"\ncommand = ["true"]\n{asks(gpu=3)}', check=False)
    assert done.returncode != 0
    assert "resources.generic.gpu: 3 wanted, this host has 2" in done.stderr
    by_path = f'name = "t"\ncommand = ["true"]\n[resources]\ndevices = ["{node(0)}"]\n'
    done = site.cli("submit", "-", input=by_path, check=False)
    assert f"resources.devices: {node(0)} belongs to 'gpu'; ask for it with resources.generic.gpu" in done.stderr


def test_the_first_alternative_that_finds_room(site: Installation) -> None:
    """As the second one it has other resources, in the kernel too, and comes back with them."""
    either = asks(gpu=2) + '[[variant]]\nresources = { cpus = 0.2, memory = "96MiB", generic = { gpu = 0 } }\n'
    tell = "echo $JOBS_VARIANT $JOBS_GENERIC_GPU\n" + WAIT
    first, second = site.run_script(tell, either), 0
    ready(site, first)
    second = site.run_script(tell, either)
    ready(site, second)
    assert [site.output(job).split()[:-1] for job in (first, second)] == [["0", "0,1"], ["1"]]
    shown = site.show(second)
    assert (shown["variant"], shown["cpus_wanted"], shown["memory_limit_bytes"]) == (1, 0.2, 96 << 20)
    assert "as variant 1" in site.cli("show", str(second)).stdout
    assert memory_limit(site, second) == 96 << 20
    site.cli("pause", str(second))
    site.until(second, "frozen")
    site.cli("resume", str(second))
    assert site.until(second, "running")["variant"] == 1
    assert memory_limit(site, second) == 96 << 20
    for job in (first, second):
        site.cli("cancel", "--kill", str(job))
    site.wait(first, second)


def memory_limit(site: Installation, job: int) -> int:
    """The tightest that the kernel has for it, wherever in its groups that is."""
    below = f"/sys/fs/cgroup/**/{site.show(job)['execution']}/**/memory"
    files = [*glob.glob(f"{below}.max", recursive=True), *glob.glob(f"{below}.limit_in_bytes", recursive=True)]
    return min(int(text) for file in files if (text := Path(file).read_text().strip()) != "max")
