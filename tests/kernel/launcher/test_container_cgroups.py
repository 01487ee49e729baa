"""The container joins the groups it is given, sees them as "/", and dies with them while the monitor records it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from containerlab import Finished, Lab

from jobs.spec import JobSpec
from runtime.client import Launcher

pytestmark = pytest.mark.needs("root", "userns", "netns", "timens", "overlay", "tool.catatonit", "cgroup2")
SLEEPER = JobSpec(name="lab", command=("sh", "-c", "sleep 600 & echo up; wait"))


class Groups(NamedTuple):
    """job/mon and job/run by hand, in v2 and, where there is one, in the v1 hierarchy of pids."""

    unified: Path
    v1: Path | None

    @property
    def tops(self) -> list[Path]:
        return [self.unified, *([self.v1] if self.v1 else [])]

    def inputs(self) -> dict[str, Any]:
        return {
            "mon_procs": tuple(f"{top}/mon/cgroup.procs" for top in self.tops),
            "run_procs": (f"{self.v1}/run/cgroup.procs",) if self.v1 else (),
            "run_unified": str(self.unified / "run"),
        }


def mounted(kind: str, option: str) -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        if tail.split()[0] == kind and option in tail.split(" ", 2)[2].split(","):
            return Path(head.split()[4])
    return None


@pytest.fixture
def groups() -> Iterator[Groups]:
    name = f"jobs-lab-{os.getpid()}"
    unified, v1 = mounted("cgroup2", "rw"), mounted("cgroup", "pids")
    assert unified
    found = Groups(unified / name, v1 / name if v1 else None)
    folders = [top / below for top in found.tops for below in ("", "mon", "run")]
    for folder in folders:
        folder.mkdir()
    yield found
    for folder in reversed(folders):
        folder.rmdir()


def test_inside_its_groups_are_the_root(lab: Lab, groups: Groups) -> None:
    done = lab.run("cat", "/proc/self/cgroup", **groups.inputs())
    found = {line.split(":")[1]: line.split(":")[2] for line in done.lines}
    assert found[""] == "/"
    if groups.v1:
        assert next(path for names, path in found.items() if "pids" in names.split(",")) == "/"


def test_the_files_it_sees_are_those_of_its_own_group(lab: Lab, groups: Groups) -> None:
    (groups.unified / "run/cgroup.max.descendants").write_text("55")
    place = "/sys/fs/cgroup" if mounted("cgroup2", "rw") == Path("/sys/fs/cgroup") else "/sys/fs/cgroup/unified"
    done = lab.run("cat", f"{place}/cgroup.max.descendants", **groups.inputs())
    assert done.lines == ["55"]


@pytest.mark.needs("cgroup1.pids")
def test_the_v1_files_too(lab: Lab, groups: Groups) -> None:
    assert groups.v1
    (groups.v1 / "run/pids.max").write_text("77")
    done = lab.run("cat", "/sys/fs/cgroup/pids/pids.max", **groups.inputs())
    assert done.lines == ["77"]


def test_the_monitor_is_in_mon_and_the_job_in_run(lab: Lab, groups: Groups) -> None:
    async def body(client: Launcher) -> None:
        async with lab.box(client, SLEEPER, **groups.inputs()) as box:
            created = await box.create()
            await box.go()
            await box.until_output("up")
            for top in groups.tops:
                assert (top / "mon/cgroup.procs").read_text().split() == [str(created.monitor_pid)]
                inside = (top / "run/cgroup.procs").read_text().split()
                assert str(created.init_pid) in inside
                assert len(inside) == 3  # reaper, shell, sleep

    lab.call(body)


def test_cgroup_kill_is_recorded_by_the_monitor(lab: Lab, groups: Groups) -> None:
    async def body(client: Launcher) -> Finished:
        async with lab.box(client, SLEEPER, **groups.inputs()) as box:
            await box.create()
            await box.go()
            await box.until_output("up")
            (groups.unified / "run/cgroup.kill").write_text("1")
            return await box.ended()

    done = lab.call(body)
    assert (done.record.status, done.record.signalled, done.stdout) == (137, True, "up\n")
