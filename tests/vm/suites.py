"""Which tests run on which machine. Pure; the table that `scripts/test-vm --list` shows.

A cell is a kind of machine, `v2x4` for pure cgroup v2 with four memory nodes; a suite is a part of the tests. A new
test folder is added to a suite here, else no guest runs it (tests/unit/vm/test_vm_suites.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vm.machine import CGROUPS, Machine

_BY_NODES = {
    1: Machine(cpus=2, memory_mb=2048),
    2: Machine(numa=2, cpus=4, memory_mb=3072, hugepages=8),
    4: Machine(numa=4, cpus=8, memory_mb=4096, hugepages=8),
}
CELLS: dict[str, Machine] = {
    **{f"{kind}x{nodes}": replace(_BY_NODES[nodes], cgroup=kind) for kind in CGROUPS for nodes in _BY_NODES},
    "smt": Machine(numa=4, cpus=8, threads=2, memory_mb=4096, hugepages=8),
    "odd": Machine(numa=2, cpus=4, threads=2, memory_mb=2048, memory_only_mb=512, offline=(3,)),
    "systemd": Machine(init="systemd", cpus=2, memory_mb=2048),
}
GRID = tuple(f"{kind}x{nodes}" for kind in CGROUPS for nodes in _BY_NODES)
ODD = ("smt", "odd")
BOOT_AGAIN = "/run/jobs-vm-again"
_PYTEST = "exec python3 -m pytest -q --durations=5 --junitxml=/opt/jobs-out/junit-$JOBS_VM_BOOT.xml"
_FOUR = tuple(f"{kind}x4" for kind in CGROUPS)
_ENDS = ("v2x1", "v1x1")  # to these suites a hybrid host is one of v1


@dataclass(frozen=True)
class Suite:
    """*tests*: arguments of pytest; or *command*. *cells*: where it runs; *short*: where it runs in scripts/test too.

    A suite with more than one of *boots* is run anew after each reboot that it asked for by making BOOT_AGAIN.
    """

    name: str
    about: str
    cells: tuple[str, ...]
    tests: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    boots: int = 1
    timeout_s: float = 1800.0

    def argv(self) -> tuple[str, ...]:
        """What the guest runs; it leaves a JUnit file of each boot in /opt/jobs-out."""
        return self.command or ("sh", "-c", f'{_PYTEST} "$@"', "pytest", "tests/vm/test_promises.py", *self.tests)


# What differs between hosts: groups that freeze, end and are found again, priorities on the wire. 20 s a test.
_E2E = tuple(f"tests/e2e/test_{name}.py" for name in ("run", "pause", "priority_wire"))
# Without the test of 20 jobs, which takes a guest 12 minutes; of 14 steps at which daemon, launcher or both are killed,
# those that make, fill and empty a group.
_CRASH_PICK = "-k(not every_step and not while_20) or creating-both or cloned-both or running-both or exited-both"
_MOVES = tuple(f"tests/e2e/test_placement_{part}.py" for part in ("escapes", "hotplug", "hugepages", "moves"))
_CGROUPS = ("tests/kernel/cgroups", "tests/kernel/test_hold_cgroup.py", "tests/contract")
_OWN = ("tests/kernel/launcher", "tests/kernel/net", *_CGROUPS[:2])  # of tests/kernel, by suites of their own
_HOST = ("tests/kernel/test_doctor.py", "tests/kernel/test_attempt.py")
SUITES = (  # the longest first: two guests run at once, and the last should not wait for one
    Suite("systemd", "the installed services", ("systemd",), ("tests/vm/systemd",), short=("systemd",), boots=2,
          timeout_s=3000.0),
    Suite("crash", "daemon, launcher and monitor killed", ("v2x1",), ("tests/e2e/test_crash.py", _CRASH_PICK)),
    Suite("e2e", "the daemon and its commands", _ENDS, _E2E),
    Suite("net", "bridge, addresses, priorities on the wire", _ENDS, ("tests/kernel/net",)),
    Suite("attacks", "what an image or a job may not do", ("v2x1",), ("tests/attacks",)),
    Suite("launcher", "containers and the launcher's verbs", _ENDS, ("tests/kernel/launcher",)),
    Suite("kernel", "the rest of tests/kernel: images, layers, seccomp", ("v2x1",),
          ("tests/kernel", *(f"--ignore={path}" for path in _OWN))),
    Suite("placement", "where threads run and pages lie", (*_FOUR, "smt"), ("tests/e2e/test_placement.py",),
          short=("v2x4",)),
    Suite("moves", "placements that change or are not to be left", _FOUR, _MOVES),
    Suite("cgroups", "control groups and freezers, file by file", GRID, _CGROUPS,
          short=("v1x2", "hybridx1")),
    Suite("host", "what doctor and topology see", ("v1x2", "v2x4", "hybridx1", *ODD), _HOST, short=("v2x4",)),
    Suite("rare", "hardware threads, nodes without CPUs", ODD, ("tests/e2e/test_placement_odd.py",)),
    Suite("demo", "scripts/demo", ("systemd",), command=("scripts/demo",)),
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One suite in one cell: one guest."""

    suite: Suite
    cell: str

    @property
    def name(self) -> str:
        return f"{self.cell} {self.suite.name}"


class UnknownName(ValueError):
    """A word that names neither a cell nor a suite."""


def select(words: Sequence[str], short: bool = False) -> list[Run]:
    """Runs of the named suites in the named cells; of all where none is named. The longest come first."""
    suites = {suite.name for suite in SUITES}
    for word in words:
        if word not in CELLS and word not in suites:
            raise UnknownName(f"{word!r} is neither a cell ({', '.join(CELLS)}) nor a suite ({', '.join(suites)})")
    cells = [word for word in words if word in CELLS]
    wanted = [word for word in words if word in suites]
    runs = [
        Run(suite, cell)
        for suite in SUITES
        for cell in (suite.short if short else suite.cells)
        if (not cells or cell in cells) and (not wanted or suite.name in wanted)
    ]
    if not runs:
        raise UnknownName(f"no suite runs there: {' '.join(words)} (scripts/test-vm --list)")
    return runs


def listing() -> str:
    """Suites and cells for people."""
    lines = ["cells:"]
    lines += [f"  {name:<12} {_machine_text(machine)}" for name, machine in CELLS.items()]
    lines += ["suites (cells; * in scripts/test too):"]
    for suite in SUITES:
        cells = " ".join(f"{cell}*" if cell in suite.short else cell for cell in suite.cells)
        lines.append(f"  {suite.name:<12} {suite.about}\n               {cells}")
    return "\n".join(lines)


def _machine_text(machine: Machine) -> str:
    parts = [f"cgroup {machine.cgroup}", f"{machine.nodes} node{'s' * (machine.nodes > 1)}", f"{machine.cpus} CPUs"]
    parts += [f"{machine.threads} threads a core"] if machine.threads > 1 else []
    parts += [f"CPU {','.join(map(str, machine.offline))} offline"] if machine.offline else []
    parts += ["one node without CPUs"] if machine.memory_only_mb else []
    parts += [f"{machine.hugepages} huge pages a node"] if machine.hugepages else []
    parts += [f"{machine.memory_mb + machine.memory_only_mb} MB"]
    return ", ".join(parts + (["systemd"] if machine.init == "systemd" else []))
