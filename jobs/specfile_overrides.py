"""`--set resources.cpus=4`: one value of a spec replaced at submission, before anything is checked. Daemon only.

KEY is a TOML key (dots, quotes; a number for an element of a list). VALUE is a TOML value, or else taken as a string.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from jobs.errors import Problem
from jobs.specfile_lines import Path, TooDeep, read_key
from jobs.specfile_problems import Origin, render_key
from jobs.specfile_values import show, type_name


def apply(data: dict[str, Any], sets: Sequence[str], origin: Origin) -> tuple[Problem, ...]:
    """Changes `data`; notes in `origin` what came from which --set. What could not be set is returned."""
    problems = []
    for order, given in enumerate(sets, start=1):
        try:
            path, value = read(given)
        except ValueError as error:
            problems.append(Problem("--set", 0, "", f"{show(given)} {error}", "for example: --set resources.cpus=4"))
            continue
        for place in _places(data, path):
            origin.overridden[place] = order
            if reason := _put(data, place, deepcopy(value)):
                problems.append(Problem("--set", 0, render_key(place), reason))
    return tuple(problems)


def _places(data: dict[str, Any], path: Path) -> list[Path]:
    """Where a file has several jobs, a key of a job is replaced in each of them."""
    jobs = data.get("job")
    if path[0] in ("job", "defaults", "version") or not isinstance(jobs, list):
        return [path]
    return [("job", position, *path) for position in range(len(jobs))]


def read(given: str) -> tuple[Path, Any]:
    """`resources.cpus=4` → (("resources", "cpus"), 4). Raises ValueError."""
    try:
        given.encode()
        key, raw = read_key(given)
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    except TooDeep as error:
        raise ValueError(f"is {error}") from None
    except ValueError:
        raise ValueError("is not key=value") from None
    path = tuple(int(part) if str(part).isascii() and str(part).isdigit() and place else part
                 for place, part in enumerate(key))  # fmt: skip
    return path, _value(path, raw.strip())


def _value(path: Path, raw: str) -> Any:
    """Environment variables are strings whatever they look like."""
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except (ValueError, RecursionError):
        return raw
    if list(parsed) != ["value"] or (path[0] == "env" and not isinstance(parsed["value"], str)):
        return raw
    return parsed["value"]


def _put(data: dict[str, Any], path: Path, value: Any) -> str:
    """Why it could not be put there, or nothing."""
    inner: Any = data
    for part in path[:-1]:
        if problem := _no_place(inner, part):
            return problem
        inner = inner[int(part)] if isinstance(inner, list) else inner.setdefault(str(part), {})
    if problem := _no_place(inner, path[-1]):
        return problem
    if isinstance(inner, list):
        inner[int(path[-1])] = value
    else:
        inner[str(path[-1])] = value
    return ""


def _no_place(inner: object, part: str | int) -> str:
    if isinstance(inner, list):
        inside = isinstance(part, int) and part < len(inner)
        return "" if inside else f"{show(part)} is not an element; the list has {len(inner)}, numbered from 0"
    return "" if isinstance(inner, dict) else f"{show(part)} is not possible below {type_name(inner)}; needs a table"
