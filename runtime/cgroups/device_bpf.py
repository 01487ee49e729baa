"""An allow list of devices as a BPF_PROG_TYPE_CGROUP_DEVICE program. Pure.

Source: struct bpf_cgroup_dev_ctx and BPF_DEVCG_* in linux/bpf.h. The program answers 1 to allow, 0 for EPERM.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.cgroups.bpf_code import AND, CONTEXT, COPY, EXIT, LOAD, MOVE, RESULT, SHIFT, UNLESS, op
from runtime.cgroups.limits import DeviceRule

_KIND = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_ALL = 7

_TYPE, _WANTS, _MAJOR, _MINOR, _SPARE = 2, 3, 4, 5, 6  # registers


def program(rules: Iterable[DeviceRule]) -> bytes:
    """struct bpf_insn[]: each rule is a row of tests that jump to the next rule on the first mismatch."""
    code = [
        op(LOAD, _TYPE, CONTEXT, 0),
        op(COPY, _WANTS, _TYPE),
        op(AND, _TYPE, value=0xFFFF),
        op(SHIFT, _WANTS, value=16),
        op(LOAD, _MAJOR, CONTEXT, 4),
        op(LOAD, _MINOR, CONTEXT, 8),
    ]
    for rule in rules:
        code += _row(rule)
    return b"".join([*code, op(MOVE, RESULT, value=0), op(EXIT)])


def _row(rule: DeviceRule) -> list[bytes]:
    refused = _ALL & ~sum(_ACCESS[letter] for letter in set(rule.access))
    tests = [(_TYPE, _KIND[rule.kind]), (_MAJOR, rule.major)]
    if rule.minor is not None:
        tests.append((_MINOR, rule.minor))
    length = 2 + 1 + len(tests) + 2
    row = [op(COPY, _SPARE, _WANTS), op(AND, _SPARE, value=refused)]
    for register, value in [(_SPARE, 0), *tests]:
        row.append(op(UNLESS, register, offset=length - len(row) - 1, value=value))
    return [*row, op(MOVE, RESULT, value=1), op(EXIT)]
