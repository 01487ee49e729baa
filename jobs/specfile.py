"""A spec's TOML text → JobSpec. Imported by the daemon only (pydantic). Keys: docs/reference/spec.md.

One pass of stages: size → lines (specfile_lines) → tomllib → --set (specfile_overrides) → jobs (specfile_jobs)
→ models (specfile_model) → rules between keys (specfile_rules) → JobSpec. Each stage gives all its problems at once,
in file order. Blocks for milliseconds on a large spec: call it in a thread.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from jobs import specfile_build, specfile_jobs, specfile_overrides, specfile_problems, specfile_rules
from jobs.errors import Problem, SpecError
from jobs.events import Owner
from jobs.spec import JobSpec
from jobs.specfile_lines import Path, TooDeep, index_lines, read_key
from jobs.specfile_model import Document
from jobs.specfile_problems import Found, Origin
from jobs.specfile_schema import json_schema

__all__ = ["json_schema", "parse"]

LARGEST_BYTES = 1 << 20
MOST_VALUES = 4000  # a program's environment and arguments fit; a text made to keep the daemon busy does not
MOST_VALUES_OF_ALL = 40_000  # of a file of several jobs


def parse(
    text: str,
    *,
    file: str,
    folder: str,
    sets: Sequence[str] = (),
    owner: Owner | None = None,
    submitted_from: str | None = None,
) -> tuple[JobSpec, ...]:
    """The jobs that a file describes, each after those of the file that it waits for. Raises SpecError.

    `folder`: of the spec file, absolute; `submitted_from`: where the submitter stood, `folder` when absent.
    `owner` is needed only for mount sources below `~/`.
    """
    lines, data = read(text, file)
    origin = Origin(file, lines)
    if problems := specfile_overrides.apply(data, sets, origin):
        raise SpecError(problems)
    jobs, found = specfile_jobs.parts(data)
    place = specfile_build.Place(folder, folder if submitted_from is None else submitted_from, owner)
    specs = []
    for part in jobs:
        spec, wrong = _one(part.data, place)
        found += [part.home(item) for item in wrong]
        specs += [spec] if spec else []
    if not found and jobs[0].at:
        order, found = specfile_jobs.in_order(specs)
        specs = [specs[position] for position in order]
    if found:
        raise SpecError(origin.problems(dict.fromkeys(found)))  # what is wrong with a default is said once
    return tuple(specs)


def _one(data: Mapping[str, Any], place: specfile_build.Place) -> tuple[JobSpec | None, list[Found]]:
    found = specfile_rules.of_keys(data)
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        found += [specfile_problems.of_pydantic(item, data) for item in error.errors(include_url=False)]
    if found:
        return None, found
    return specfile_build.build(document, place)


def read(text: str, file: str, what: str = "spec") -> tuple[dict[Path, int], dict[str, Any]]:
    """Lines of keys, and the values. Raises SpecError for what is no TOML, or no person's."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise SpecError((Problem(file, line, "", "not UTF-8; needs a text file in UTF-8"),)) from None
    if size > LARGEST_BYTES:
        raise SpecError((Problem(file, 0, "", f"{size} bytes are too many for a {what}; at most {LARGEST_BYTES}"),))
    try:
        lines, data = index_lines(text), tomllib.loads(text)
    except TooDeep as error:
        raise SpecError((Problem(file, error.line, "", f"not a {what}: {error}"),)) from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError((_syntax_problem(text, file, str(error)),)) from None
    except ValueError:  # Python refuses integers of more than 4300 digits
        digits = re.search(r"[0-9_]{4300}", text)
        line = text.count("\n", 0, digits.start()) + 1 if digits else 0
        raise SpecError((Problem(file, line, "", f"not a {what}: holds an integer of thousands of digits"),)) from None
    most = MOST_VALUES if "job" not in data else MOST_VALUES_OF_ALL
    if (count := _count(data)) > most:
        raise SpecError((Problem(file, 0, "", f"{count} keys and values are too many; at most {most}"),))
    return lines, data


def _count(value: Any) -> int:
    """Keys and values below. As deep as `index_lines` lets a text be."""
    if isinstance(value, dict):
        return sum(1 + _count(below) for below in value.values())
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 0


def _syntax_problem(text: str, file: str, message: str) -> Problem:
    """tomllib says "Expected '=' after a key in a key/value pair (at line 3, column 7)" or "(at end of document)"."""
    if text.startswith("\ufeff"):
        return Problem(file, 1, "", "begins with a byte order mark; needs plain UTF-8", "save it as UTF-8 without BOM")
    at = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    what = re.sub(r" \(at [^()]*\)$", "", message)
    what = what[:1].lower() + what[1:]
    what = re.sub(r"\((?:'[^']*',? ?)+\)", lambda tuple_: ".".join(re.findall(r"'([^']*)'", tuple_[0])), what)
    if at and what == "cannot overwrite a value":
        return Problem(file, int(at[1]), _key_at(text, int(at[1])), "given twice; possible: once")
    if at:
        return Problem(file, int(at[1]), "", f"not TOML: {what} (column {at[2]})")
    return Problem(file, text.rstrip("\n").count("\n") + 1, "", f"not TOML: {what} (at the end)")


def _key_at(text: str, line: int) -> str:
    """The key that a line begins with, as far as one can tell."""
    try:
        return specfile_problems.render_key(read_key(text.split("\n")[line - 1])[0])
    except ValueError:
        return ""
