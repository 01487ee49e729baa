"""The seccomp allow list of `config/seccomp/`, compiled once to BPF bytes that the payload installs before execve.

`parse` is pure; `compile_policy` goes through libseccomp (nobody writes BPF for system calls by hand). The child that
installs the bytes needs no library and no file.
"""

from __future__ import annotations

import errno
import os
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyseccomp

_INT = 0xFFFF_FFFF
_LONG = 0xFFFF_FFFF_FFFF_FFFF
_CONDITION = re.compile(r"(int )?arg([0-5])(?: & (0x[0-9a-f]+|\d+))? == (0x[0-9a-f]+|\d+)")
_BINARY_TREE = 2  # of Attr.CTL_OPTIMIZE


class BadPolicy(ValueError):
    """A policy file that does not say what it should; names the call and the text."""


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    """`argument & mask == value`."""

    arg: int
    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Case:
    """All conditions hold → `action`, 0 to allow or an errno. Without conditions: whatever is left."""

    conditions: tuple[Condition, ...]
    action: int


@dataclass(frozen=True, slots=True)
class Policy:
    """Calls by name. What is nowhere is ENOSYS."""

    allow: tuple[str, ...]
    refuse: tuple[str, ...]
    absent: tuple[str, ...]
    filters: dict[str, tuple[Case, ...]]


def parse(text: str) -> Policy:
    """TOML → Policy. Raises BadPolicy; every call may be in one place only."""
    data = tomllib.loads(text)
    if data.get("version") != 1:
        raise BadPolicy(f"version is {data.get('version')!r}; this program knows 1")
    lists = {name: tuple(data.get(name, ())) for name in ("allow", "refuse", "absent")}
    filters = {call: _cases(call, cases) for call, cases in data.get("filters", {}).items()}
    names = [call for calls in lists.values() for call in calls] + list(filters)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadPolicy(f"listed twice: {', '.join(twice)}")
    unknown = sorted(set(data) - {"version", "allow", "refuse", "absent", "filters"})
    if unknown:
        raise BadPolicy(f"unknown keys: {', '.join(unknown)}")
    return Policy(**lists, filters=filters)


def compile_policy(policy: Policy) -> bytes:
    """struct sock_filter[] for this machine's architecture. Calls that libseccomp does not know stay ENOSYS."""
    program = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.ENOSYS))
    program.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.ERRNO(errno.EPERM))  # i386's and x32's tables
    program.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    for call in policy.allow:
        _add(program, pyseccomp.ALLOW, call)
    for call in policy.refuse:
        _add(program, pyseccomp.ERRNO(errno.EPERM), call)
    for call, cases in policy.filters.items():
        for case in cases:
            action = pyseccomp.ERRNO(case.action) if case.action else pyseccomp.ALLOW
            _add(program, action, call, *_arguments(case, cases))
    return _exported(program)


@cache
def default_program() -> bytes:
    """`config/seccomp/default.toml`, compiled once per process."""
    import config

    path = os.path.join(os.path.dirname(config.__file__), "seccomp", "default.toml")
    with open(path, encoding="utf-8") as file:
        return compile_policy(parse(file.read()))


def _cases(call: str, rows: Any) -> tuple[Case, ...]:
    """The last one must be `else`."""
    cases = tuple(_case(call, condition, action) for condition, action in rows)
    if not cases or cases[-1].conditions or any(not case.conditions for case in cases[:-1]):
        raise BadPolicy(f"{call}: exactly the last case must be 'else'")
    return cases


def _case(call: str, condition: str, action: str) -> Case:
    number = 0 if action == "allow" else getattr(errno, action, None)
    if number is None:
        raise BadPolicy(f"{call}: {action!r} is neither 'allow' nor the name of an errno")
    parts = [] if condition == "else" else condition.split(" and ")
    return Case(tuple(_condition(call, part) for part in parts), number)


def _condition(call: str, text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise BadPolicy(f"{call}: not a condition: {text!r}; write for example 'int arg0 == 1' or 'arg0 & 0xff == 0'")
    mask = int(match[3], 0) if match[3] else _LONG
    return Condition(int(match[2]), mask & (_INT if match[1] else _LONG), int(match[4], 0))


def _arguments(case: Case, cases: tuple[Case, ...]) -> list[pyseccomp.Arg]:
    """libseccomp has no "else", a shorter rule swallows a longer one, and an empty mask is dropped together with its
    rule's condition. So every rule of a call tests the same arguments, one that does not matter with `>= 0`: libseccomp
    asks for equality first, and what no equal rule takes falls through. tests/kernel/test_seccomp.py holds it to that.
    """
    used = sorted({condition.arg for other in cases for condition in other.conditions})
    tested = {condition.arg: condition for condition in case.conditions}
    return [_argument(tested[arg]) if arg in tested else pyseccomp.Arg(arg, pyseccomp.GE, 0) for arg in used]


def _argument(condition: Condition) -> pyseccomp.Arg:
    return pyseccomp.Arg(condition.arg, pyseccomp.MASKED_EQ, condition.mask, condition.value)


def _add(program: pyseccomp.SyscallFilter, action: int, call: str, *arguments: pyseccomp.Arg) -> None:
    """A call that this libseccomp, or this architecture, does not know has a negative number: it stays ENOSYS."""
    number = pyseccomp.resolve_syscall(pyseccomp.system_arch(), call)
    if number >= 0:
        program.add_rule(action, number, *arguments)


@cache
def call_name(number: int) -> str:
    """`read`, as this host's architecture numbers it; the number itself where libseccomp does not know it."""
    name = pyseccomp.resolve_syscall(pyseccomp.system_arch(), number)
    return name.decode() if isinstance(name, bytes) else str(name or number)


def _exported(program: pyseccomp.SyscallFilter) -> bytes:
    """seccomp_export_bpf(3) writes to a descriptor."""
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "rb") as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()
