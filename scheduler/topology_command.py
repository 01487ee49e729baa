"""`jobsd topology`: this machine, or a captured one, drawn or captured. Needs no daemon and is for anybody.

With a daemon `jobs topology` draws what it tells; this is for where there is none, and for files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict

from config.settings import Settings
from jobs import topology_svg, topology_text
from jobs.cli.terminal import write_file
from jobs.errors import EXIT_OK, UserError
from jobs.host import Topology
from jobs.machine import bare, view_of
from scheduler.capture import ABOUT, Captured, capture
from scheduler.topology import read_topology

_WIDEST, _ELSEWHERE = 120, 100
_ABOUT = "files of /sys and /proc that a host's topology is read from, collected by: jobs topology --capture"


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Exit status. Raises UserError or HostError."""
    parser = argparse.ArgumentParser("jobsd topology", allow_abbrev=False)
    parser.add_argument("--from", dest="source", default="", metavar="FILE")
    parser.add_argument("--svg", default="", metavar="FILE")
    parser.add_argument("--capture", default="", metavar="FILE")
    parser.add_argument("--json", action="store_true", dest="as_json")
    given = parser.parse_args(arguments)
    if given.capture:
        _capture(given.capture)
        return EXIT_OK
    machine = bare(_read(given.source, settings), os.path.basename(given.source))
    if given.as_json:
        sys.stdout.write(json.dumps(asdict(machine), indent=2 if sys.stdout.isatty() else None) + "\n")
    elif given.svg:
        write_file(given.svg, topology_svg.draw(view_of(machine)))
    else:
        sys.stdout.write(topology_text.draw(view_of(machine), _width()) + "\n")
    return EXIT_OK


def _read(source: str, settings: Settings) -> Topology:
    """This machine's, or that of a capture."""
    isolated = settings.use_isolated_cpus
    if not source:
        return read_topology(_text, os.listdir, use_isolated_cpus=isolated)
    try:
        files = json.loads(sys.stdin.read() if source == "-" else _text(source))
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{source}: not JSON: {error}", hint="it is made by: jobs topology --capture") from error
    if not isinstance(files, dict) or not all(isinstance(text, str) for text in files.values()):
        raise UserError(f"{source}: not a capture: an object of paths and texts is wanted",
                        hint="it is made by: jobs topology --capture")  # fmt: skip
    captured = Captured(files)
    return read_topology(captured.read, captured.listdir, use_isolated_cpus=isolated)


def _capture(target: str) -> None:
    files = capture(_text, os.listdir, _ABOUT)
    write_file(target, json.dumps(files, indent=1, ensure_ascii=False) + "\n")
    say = sys.stderr.write
    where = "stdout" if target == "-" else os.path.abspath(target)
    say(f"{len(files) - (ABOUT in files)} files of this machine's /sys and /proc are in {where}:\n"
        "  numbers and lists of CPUs, cores, caches, sockets and memory nodes; sizes of memory and huge pages;\n"
        "  the processor's model and the kernel's version; no host name, address, serial number or user\n"
        f"  look at it with: jobs topology --from {where if target != '-' else 'FILE'}\n")  # fmt: skip


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _width() -> int:
    return min(shutil.get_terminal_size((_ELSEWHERE, 24)).columns, _WIDEST)
