"""The tables `[generic.NAME]` of the settings: resources that an operator names, GPUs and licences. Pure.

Either `devices` (a pattern, a list of nodes, or a list of lists) or `count` says how many there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")  # also part of a variable's name
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MOST_INSTANCES = 4096


@dataclass(frozen=True, slots=True)
class GenericSetting:
    """As written and checked. `pattern` is resolved, and nodes are looked for, where the host is read."""

    name: str
    count: int = 0  # without device nodes: licences
    devices: tuple[tuple[str, ...], ...] = ()  # each instance's nodes, listed, or a pattern "/dev/nvidia[0-9]*"
    pattern: str = ""  # or a pattern of paths, each match an instance
    shared: tuple[str, ...] = ()  # device nodes that every holder gets
    numa: tuple[int, ...] = ()  # the memory node of each instance; absent: asked of /sys
    env: str = ""  # a variable that tells the job which it has
    release_when_frozen: bool = False  # a frozen job gives it back; only without device nodes


KEYS = ("count", "devices", "shared", "numa", "env", "release_when_frozen")
assert {*KEYS, "name", "pattern"} == {field.name for field in fields(GenericSetting)}


def read(given: object) -> tuple[GenericSetting, ...]:
    """By name. Raises ValueError with the key, the value and what is possible."""
    if not isinstance(given, Mapping):
        raise ValueError(f"generic = {given!r} is not a table; write [generic.NAME] above its keys")
    return tuple(_one(name, given[name]) for name in sorted(given))


def _one(name: str, given: object) -> GenericSetting:
    here = f"generic.{name}"
    if not NAME.fullmatch(name):
        raise ValueError(f"{here}: a name has a to z, 0 to 9 and _, begins with a letter, and at most 32 of them")
    if not isinstance(given, Mapping):
        raise ValueError(f"{here} = {given!r} is not a table")
    if unknown := sorted(set(given) - set(KEYS)):
        raise ValueError(f"{here}: no key {unknown[0]!r}; keys are: {', '.join(KEYS)}")
    if ("count" in given) == ("devices" in given):
        raise ValueError(f"{here}: needs either count or devices")
    pattern, devices = _devices(f"{here}.devices", given["devices"]) if "devices" in given else ("", ())
    found = GenericSetting(
        name=name,
        count=_count(f"{here}.count", given["count"]) if "count" in given else 0,
        devices=devices,
        pattern=pattern,
        shared=_paths(f"{here}.shared", given.get("shared", [])),
        numa=_numa(f"{here}.numa", given.get("numa", [])),
        env=_env(f"{here}.env", given.get("env", "")),
        release_when_frozen=_flag(f"{here}.release_when_frozen", given.get("release_when_frozen", False)),
    )
    size = found.count or len(found.devices)
    if found.numa and not pattern and len(found.numa) != size:
        raise ValueError(f"{here}.numa has {len(found.numa)} nodes for {size} instances; needs one for each")
    if "count" in given and found.shared:
        raise ValueError(f"{here}.shared: only with devices")
    if "devices" in given and found.release_when_frozen:
        raise ValueError(f"{here}.release_when_frozen: not with devices; a frozen program has them open still")
    return found


def _devices(key: str, given: object) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """(pattern, instances): one of the two."""
    if isinstance(given, str):
        return _path(key, given), ()
    if not isinstance(given, list) or not given:
        raise ValueError(f'{key} = {given!r} is not a pattern such as "/dev/nvidia[0-9]*", and not a list of nodes')
    rows = tuple(_paths(key, [each] if isinstance(each, str) else each) for each in given)
    if not all(rows):
        raise ValueError(f"{key}: an instance without device nodes; needs one or more")
    if len({row[0] for row in rows}) != len(rows):
        raise ValueError(f"{key}: two instances begin with the same node; the first of each must be its own")
    if len(rows) > MOST_INSTANCES:
        raise ValueError(f"{key}: {len(rows)} are too many; at most {MOST_INSTANCES}")
    return "", rows


def _paths(key: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise ValueError(f"{key} = {given!r} is not a list of device nodes")
    return tuple(_path(key, each) for each in given)


def _path(key: str, given: object) -> str:
    if not isinstance(given, str) or not given.startswith("/dev/") or ".." in given.split("/"):
        raise ValueError(f"{key}: {given!r} is not a path below /dev")
    return given


def _count(key: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_INSTANCES:
        raise ValueError(f"{key} = {given!r} is not an integer from 1 to {MOST_INSTANCES}")
    return given


def _numa(key: str, given: object) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(type(each) is int and each >= 0 for each in given):
        raise ValueError(f"{key} = {given!r} is not a list of memory nodes, such as [0, 0, 1, 1]")
    return tuple(given)


def _env(key: str, given: object) -> str:
    if not isinstance(given, str) or (given and not VARIABLE.fullmatch(given)):
        raise ValueError(f"{key} = {given!r} is not a variable's name")
    return given


def _flag(key: str, given: object) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"{key} = {given!r} is not true or false")
    return given
