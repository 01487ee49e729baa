"""Several jobs in one file: `[[job]]` tables over `[defaults]`, and the order that their dependencies ask for. Pure.

A file without `[[job]]` is one job. Problems keep the place where the value stands: in the job's table or in defaults.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import Any

from jobs.array import Array
from jobs.needs import KINDS
from jobs.spec import Depends, JobSpec
from jobs.specfile_lines import Path, index_lines, line_of
from jobs.specfile_problems import TABLES, Found, render_key
from jobs.specfile_values import show, type_name

MOST_JOBS = 1000  # of one file
_HERE = ("defaults", "job", "version")


@dataclass(frozen=True, slots=True)
class Part:
    """One job's data, defaults merged under it; `at` is its table in the file, () where the file is the job."""

    data: Mapping[str, Any]
    at: Path = ()
    own: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def home(self, found: Found) -> Found:
        """The problem at the place that the user wrote."""
        if not self.at:
            return found
        in_defaults = not _holds(self.own, found.path) and _holds(self.defaults, found.path)
        return replace(found, path=("defaults", *found.path) if in_defaults and found.path else (*self.at, *found.path))


def _holds(data: Any, path: Path) -> bool:
    for part in path:
        inside = isinstance(part, int) and part < len(data) if isinstance(data, list) else isinstance(data, dict)
        if not inside or (isinstance(data, dict) and part not in data):
            return False
        data = data[part]
    return True


def parts(data: Mapping[str, Any]) -> tuple[list[Part], list[Found]]:
    """The jobs of a document, and what is wrong with its outer form."""
    if "job" not in data and "defaults" not in data:
        return [Part(data)], []
    jobs, defaults = data.get("job", []), data.get("defaults", {})
    if not isinstance(jobs, list) or not jobs or not all(isinstance(job, dict) for job in jobs):
        given = "is missing" if "job" not in data else f"is {type_name(jobs)}"
        return [], [Found(("job",), f"{given}; needs a table for each job", "write [[job]] above each, two brackets")]
    if not isinstance(defaults, dict):
        return [], [Found(("defaults",), f"{show(defaults)} is {type_name(defaults)}; needs a table")]
    if len(jobs) > MOST_JOBS:
        return [], [Found(("job",), f"{len(jobs)} jobs are too many for one file; at most {MOST_JOBS}")]
    found = [_misplaced(key) for key in data if key not in _HERE]
    found += [Found(("defaults", "name"), "each job has a name of its own", "move it into [[job]]")] * (
        "name" in defaults
    )
    shared = {key: data[key] for key in ("version",) if key in data}
    made = [
        Part(shared | merged(_without_other_program(defaults, job), job), ("job", position), job, defaults)
        for position, job in enumerate(jobs)
    ]
    return made, found


def _misplaced(key: str) -> Found:
    hint = "put it into [defaults]" if key in TABLES[()].model_fields else ""
    return Found((key,), f"unknown key beside [[job]]; possible here: {', '.join(_HERE)}", hint)


def _without_other_program(defaults: Mapping[str, Any], job: Mapping[str, Any]) -> Mapping[str, Any]:
    """A job's command takes the place of the script of the defaults, and the other way round."""
    drop = {"command", "script"} if {"command", "script"} & set(job) else set()
    return {key: value for key, value in defaults.items() if key not in drop}


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables key by key; everything else, lists too, as a whole."""
    found = dict(under)
    for key, value in over.items():
        below = found.get(key)
        found[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return found


def place_of(text: str, name: str, path: Path) -> tuple[int, str]:
    """(line, key) of a part of the job of that name, in a text that was parsed before."""
    data = tomllib.loads(text)
    part = next((each for each in parts(data)[0] if each.data.get("name") == name), Part(data))
    if not _holds(part.data, path):  # a single job that is waited for, written without brackets
        path = path[:-1]
    place = part.home(Found(path, "")).path
    return line_of(index_lines(text), place), render_key(place)


def names_of(depends: Depends) -> list[tuple[str, int, str]]:
    """(kind, position, name) of each job that is waited for by name."""
    return [
        (kind, position, name)
        for kind in KINDS
        for position, name in enumerate(getattr(depends, kind))
        if isinstance(name, str)
    ]


def in_order(specs: Sequence[JobSpec]) -> tuple[list[int], list[Found]]:
    """Positions, each after those it waits for, else as in the file; what stands in the way of such an order."""
    first: dict[str, int] = {}
    found = []
    for position, spec in enumerate(specs):
        if spec.name in first:
            said = f"{show(spec.name)} is already the name of job[{first[spec.name]}]"
            found.append(Found(("job", position, "name"), said, "names are unique in a file: others refer to them"))
        first.setdefault(spec.name, position)
    before: list[set[int]] = [set() for _ in specs]
    for position, spec in enumerate(specs):
        for kind, at, name in names_of(spec.depends):
            other = specs[first[name]].array if name in first else None
            if name == spec.name:
                found.append(Found(("job", position, "depends", kind, at), f"{show(name)} is this job itself"))
            elif kind == "aftercorr" and name in first and (other is None or not _alike(other, spec.array)):
                said = f"{show(name)} {f'has the indexes {other}' if other else 'is no array'}; needs those of this job"
                found.append(Found(("job", position, "depends", kind, at), said))
            elif name in first:
                before[position].add(first[name])
    if found:
        return [], found
    order = _sorted(before)
    if len(order) == len(specs):
        return order, []
    circle = _circle(before, set(range(len(specs))) - set(order))
    said = " → ".join(specs[position].name for position in circle)
    return [], [Found(("job", circle[0], "depends"), f"the jobs wait for each other in a circle: {said}",
                      "take one of these dependencies out")]  # fmt: skip


def _alike(one: Array, other: Array | None) -> bool:
    return other is not None and one.ranges == other.ranges


def _sorted(before: Sequence[set[int]]) -> list[int]:
    """As far as there is an order."""
    missing = [len(each) for each in before]
    behind: dict[int, list[int]] = {}
    for position, needs in enumerate(before):
        for need in needs:
            behind.setdefault(need, []).append(position)
    ready = [position for position, count in enumerate(missing) if not count]
    heapify(ready)
    order = []
    while ready:
        order.append(position := heappop(ready))
        for later in behind.get(position, ()):
            missing[later] -= 1
            if not missing[later]:
                heappush(ready, later)
    return order


def _circle(before: Sequence[set[int]], left: set[int]) -> list[int]:
    """One circle among those that have no order, in the order of running, its first at both ends."""
    walked: list[int] = []
    at = min(left)
    while at not in walked:
        walked.append(at)
        at = min(before[at] & left)
    circle = walked[walked.index(at) :][::-1]
    turn = circle.index(min(circle))
    return [*circle[turn:], *circle[:turn], circle[turn]]
