"""An allow list of devices as a BPF_PROG_TYPE_CGROUP_DEVICE program. Pure.

Source: struct bpf_cgroup_dev_ctx and BPF_DEVCG_* in linux/bpf.h. The program answers 1 to allow, 0 for EPERM.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from runtime.cgroups.limits import DeviceRule

_KIND = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_ALL = 7

_LOAD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_COPY = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
_AND = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
_SHIFT = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
_UNLESS = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_EXIT = 0x95

_CONTEXT, _TYPE, _WANTS, _MAJOR, _MINOR, _SPARE = 1, 2, 3, 4, 5, 6  # registers


def _op(code: int, to: int = 0, source: int = 0, jump: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, to | source << 4, jump, value)


def program(rules: Iterable[DeviceRule]) -> bytes:
    """struct bpf_insn[]: each rule is a row of tests that jump to the next rule on the first mismatch."""
    code = [
        _op(_LOAD, _TYPE, _CONTEXT, 0),
        _op(_COPY, _WANTS, _TYPE),
        _op(_AND, _TYPE, value=0xFFFF),
        _op(_SHIFT, _WANTS, value=16),
        _op(_LOAD, _MAJOR, _CONTEXT, 4),
        _op(_LOAD, _MINOR, _CONTEXT, 8),
    ]
    for rule in rules:
        code += _row(rule)
    return b"".join([*code, _op(_MOVE, 0, value=0), _op(_EXIT)])


def _row(rule: DeviceRule) -> list[bytes]:
    refused = _ALL & ~sum(_ACCESS[letter] for letter in set(rule.access))
    tests = [(_TYPE, _KIND[rule.kind]), (_MAJOR, rule.major)]
    if rule.minor is not None:
        tests.append((_MINOR, rule.minor))
    length = 2 + 1 + len(tests) + 2
    row = [_op(_COPY, _SPARE, _WANTS), _op(_AND, _SPARE, value=refused)]
    for register, value in [(_SPARE, 0), *tests]:
        row.append(_op(_UNLESS, register, jump=length - len(row) - 1, value=value))
    return [*row, _op(_MOVE, 0, value=1), _op(_EXIT)]
