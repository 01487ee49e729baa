"""`scripts/test-vm`: one command in one guest, or the suites in the cells of the table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from vm import build, guest, matrix, suites
from vm.machine import CGROUPS, INITS, BadMachine, Machine
from vm.places import ROOT, say
from vm.results import as_json, table

DESCRIPTION = """scripts/test-vm [options] -- COMMAND: runs COMMAND as root in a throw-away virtual machine with
this work tree in /opt/jobs, and ends with its status. Status 75 of COMMAND means: boot again and call it once more
(JOBS_VM_BOOT counts; --reboots allows it). 124: the time ran out; 125: the guest ended without a result.

scripts/test-vm [CELL…] [SUITE…]: runs suites of tests in kinds of machines (--list), all where none is named.

The guest is a minimal Debian of the host's release with what the tests need; it is built once and kept in
$JOBS_VM_CACHE (/var/cache/jobs-vm)."""
RESULTS = ROOT / "out" / "vm"


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    words, command = _split(sys.argv[1:])
    options = _parser().parse_args(words)
    try:
        return _one(options, command) if command else _suites(options)
    except (BadMachine, suites.UnknownName, build.BuildFailed) as error:
        say(str(error))
        return guest.NO_RESULT


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before and after the first `--`."""
    words = list(arguments)
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], words[cut + 1 :]


def _one(options: argparse.Namespace, command: Sequence[str]) -> int:
    if options.words:
        raise suites.UnknownName(f"{' '.join(options.words)!r} before a command; cells and suites go without one")
    order = guest.Order(
        machine=_machine(options),
        command=command,
        environment=dict(pair.split("=", 1) for pair in options.env),
        timeout_s=options.timeout,
        boots=options.reboots + 1,
        results=options.results,
    )
    outcome = guest.run(order, sys.stdout.buffer, sys.stderr.buffer)
    if outcome.why:
        say(outcome.why)
    return outcome.status


def _suites(options: argparse.Namespace) -> int:
    if options.list:
        print(suites.listing())
        return 0
    folder = options.results or RESULTS
    results = matrix.run_all(suites.select(options.words, options.short), folder, options.guests)
    (folder / "results.json").write_text(json.dumps(as_json(results), indent=1))
    print(json.dumps(as_json(results), indent=1) if options.json else table(results))
    return 0 if all(result.good for result in results) else 1


def _machine(options: argparse.Namespace) -> Machine:
    return Machine(
        cgroup=options.cgroup,
        init=options.init,
        numa=options.numa,
        cpus=options.cpus,
        threads=options.threads,
        memory_mb=options.memory,
        memory_only_mb=options.memory_only,
        hugepages=options.hugepages,
        offline=options.offline,
        distances=options.distances,
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _matrix(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(_numbers(row) for row in text.split(";"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/test-vm", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cgroup", choices=CGROUPS, default="v2", help="hierarchy on /sys/fs/cgroup, laid out as systemd does (v2)")
    add("--init", choices=INITS, default="plain", help="process 1: systemd, or a short script (plain)")
    add("--numa", type=int, default=1, metavar="N", help="nodes (1); --cpus and --memory are shared evenly by them")
    add("--cpus", type=int, default=2, metavar="N", help="CPUs, threads counted (2)")
    add("--threads", type=int, default=1, metavar="N", help="hardware threads of a core (1)")
    add("--memory", type=int, default=2048, metavar="MB", help="memory of the nodes with CPUs (2048)")
    add("--memory-only", type=int, default=0, metavar="MB", help="one more node, without CPUs")
    add("--hugepages", type=int, default=0, metavar="N", help="reserved pages of 2 MiB on each node with CPUs")
    add("--offline", type=_numbers, default=(), metavar="N,N", help="CPUs that are taken offline")
    add("--distances", type=_matrix, default=(), metavar="10,21;21,10", help="between nodes, row by row")
    add("--reboots", type=int, default=0, metavar="N", help="how often the guest may boot again, its disk kept (0)")
    add("--timeout", type=float, default=600.0, metavar="S", help="for boot and command (600)")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="in the command's environment")
    add("--results", type=Path, metavar="FOLDER", help="where files of /opt/jobs-out go (suites: out/vm)")
    add("--list", action="store_true", help="only show suites and cells")
    add("--short", action="store_true", help="only what scripts/test runs")
    add("--guests", type=int, choices=(1, 2), default=2, help="how many at once (2); a host never runs more")
    add("--json", action="store_true", help="the table as JSON")
    add("words", nargs="*", metavar="CELL or SUITE", help="which suites, in which kinds of machines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
