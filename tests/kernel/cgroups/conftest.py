"""Real groups below a root of our own in every hierarchy of this host, and real processes inside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from patience import PATIENCE_S

from jobs.host import HostCaps
from runtime import hostcaps
from runtime.cgroups import private_mounts
from runtime.cgroups.group import JobGroup
from runtime.cgroups.limits import Limits
from runtime.cgroups.tree import CgroupTree

GENEROUS = Limits(memory_bytes=512 << 20)


@pytest.fixture(scope="session")
def caps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCaps]:
    """The host with net_cls and net_prio mounted privately, as the daemon does it."""
    if os.geteuid() != 0:
        pytest.skip("needs root: not root")
    directory = str(tmp_path_factory.mktemp("cgroup"))
    private_mounts.mount_missing(directory)
    yield hostcaps.probe(directory)
    private_mounts.unmount(directory)
    assert directory not in Path("/proc/self/mountinfo").read_text()


class Bench:
    """One tree, its groups and the processes started in them; everything ends with the test."""

    def __init__(self, caps: HostCaps, name: str = "") -> None:
        self.caps = caps
        self.tree = CgroupTree(caps, f"jt-cg-{os.getpid()}{name}")
        self.processes: list[subprocess.Popen[bytes]] = []
        self._next = 0

    def group(self, limits: Limits = GENEROUS) -> JobGroup:
        self._next += 1
        return self.tree.create(f"{self._next}.0.1", limits)

    def start(self, group: JobGroup, argv: Sequence[str], *, where: str = "run") -> subprocess.Popen[bytes]:
        """A process that joined every group of `run` (or `mon`) before its program began."""
        joins = [*group.run_procs, f"{group.run_unified}/cgroup.procs" if group.run_unified else ""]
        if where == "mon":
            joins = list(group.mon_procs)
        joined, child_end = os.pipe()
        script = f'for f in $JOINS; do echo 0 > "$f" || exit 99; done; exec {child_end}>&-; exec "$@"'
        process = subprocess.Popen(
            ["/bin/bash", "-c", script, "sh", *argv],
            env={**os.environ, "JOINS": " ".join(filter(None, joins))},
            pass_fds=(child_end,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(child_end)
        os.read(joined, 1)  # EOF: it is in its groups
        os.close(joined)
        self.processes.append(process)
        return process

    def run(self, group: JobGroup, argv: Sequence[str]) -> tuple[int, str, str]:
        process = self.start(group, argv)
        out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out.decode(), err.decode()

    def python(self, group: JobGroup, code: str, *args: str) -> tuple[int, str, str]:
        return self.run(group, [sys.executable, "-I", "-S", "-c", code, *args])

    def close(self) -> None:
        async def end() -> None:
            for name in self.tree.names():
                group = self.tree.open(name)
                await group.kill()
                for process in self.processes:
                    process.kill()
                    process.wait()
                await group.remove()

        anyio.run(end)
        for process in self.processes:
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()
        self.tree.remove_root()
        for mount in {*(mount.path for mount in self.caps.controllers.values()), self.caps.unified or "/sys"}:
            assert not os.path.exists(f"{mount}/{self.tree.root}")


@pytest.fixture
def make_bench() -> Iterator[Callable[[HostCaps], Bench]]:
    made: list[Bench] = []

    def make(caps: HostCaps) -> Bench:
        bench = Bench(caps, f"-{len(made)}")
        made.append(bench)
        bench.tree.prepare()
        return bench

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(caps: HostCaps, make_bench: Callable[[HostCaps], Bench]) -> Bench:
    """This host as it is."""
    return make_bench(caps)


@pytest.fixture
def v1_bench(caps: HostCaps, make_bench: Callable[[HostCaps], Bench]) -> Bench:
    """This host as if no unified hierarchy were mounted."""
    forced = hostcaps.forced_v1(caps)
    if not {"freezer", "devices"} <= set(forced.controllers):
        pytest.skip("needs cgroup1.freezer cgroup1.devices: not mounted")
    return make_bench(forced)


@pytest.fixture
def v2_bench(caps: HostCaps, make_bench: Callable[[HostCaps], Bench]) -> Bench:
    """This host as if only the unified hierarchy were there; devices by BPF."""
    if not caps.unified:
        pytest.skip("needs cgroup2: no unified hierarchy is mounted")
    v2 = {name: mount for name, mount in caps.controllers.items() if mount.version == 2}
    for name in ("devices", "freezer"):
        v2[name] = replace(caps.controllers[name], version=2, path=caps.unified)
    return make_bench(replace(caps, controllers=v2, freezer="v2"))
