"""The policy file: every call has one place, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pyseccomp
import pytest

import config
from runtime.seccomp import BadPolicy, Case, Condition, compile_policy, default_program, parse

DEFAULT = (Path(config.__file__).parent / "seccomp" / "default.toml").read_text()


def known_calls() -> set[str]:
    """What this libseccomp knows of the native architecture."""
    found = set()
    for number in range(600):
        try:
            found.add(pyseccomp.resolve_syscall(pyseccomp.system_arch(), number).decode())
        except ValueError:
            continue
    return found


def test_every_known_call_has_a_place():
    policy = parse(DEFAULT)
    placed = {*policy.allow, *policy.refuse, *policy.absent, *policy.filters}
    assert known_calls() - placed == set()


def test_every_named_call_exists():
    """A misspelt name would silently be ENOSYS. This machine's libseccomp knows all calls that the file names."""
    policy = parse(DEFAULT)
    assert {*policy.allow, *policy.refuse, *policy.filters} - known_calls() == set()


@pytest.mark.parametrize(
    "call",
    [
        "mount",
        "bpf",
        "keyctl",
        "io_uring_setup",
        "kexec_load",
        "init_module",
        "open_by_handle_at",
        "userfaultfd",
        "setns",
    ],
)
def test_refused_by_name(call):
    assert call in parse(DEFAULT).refuse


def test_parse_conditions():
    policy = parse(
        'version = 1\n[filters]\nsocket = [["int arg0 == 16 and arg2 & 0xf0 == 0x10", "EPERM"], ["else", "allow"]]'
    )
    assert policy.filters["socket"] == (
        Case((Condition(0, 0xFFFFFFFF, 16), Condition(2, 0xF0, 0x10)), 1),
        Case((), 0),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "version is None"),
        ("version = 2", "version is 2"),
        ('version = 1\nallow = ["read"]\nrefuse = ["read"]', "listed twice: read"),
        ('version = 1\nallow = ["read", "read"]', "listed twice: read"),
        ('version = 1\nallow = ["ioctl"]\n[filters]\nioctl = [["else", "allow"]]', "listed twice: ioctl"),
        ("version = 1\ndeny = []", "unknown keys: deny"),
        ('version = 1\n[filters]\nioctl = [["int arg1 = 3", "allow"], ["else", "EPERM"]]', "not a condition"),
        ('version = 1\n[filters]\nioctl = [["arg7 == 3", "allow"], ["else", "EPERM"]]', "not a condition"),
        ('version = 1\n[filters]\nioctl = [["else", "perhaps"]]', "'perhaps' is neither"),
        ('version = 1\n[filters]\nioctl = [["arg1 == 3", "allow"]]', "last case must be 'else'"),
        ('version = 1\n[filters]\nioctl = [["else", "allow"], ["arg1 == 3", "allow"]]', "last case must be 'else'"),
        ("version = 1\n[filters]\nioctl = []", "last case must be 'else'"),
    ],
)
def test_mistakes_are_named(text, complaint):
    with pytest.raises(BadPolicy, match=complaint):
        parse(text)


def test_compiled_once_and_small_enough():
    """BPF_MAXINSNS is 4096 (linux/bpf_common.h)."""
    program = default_program()
    assert program is default_program()
    assert len(program) % 8 == 0 and 100 < len(program) // 8 < 4096


def test_a_call_that_libseccomp_does_not_know_is_left_out():
    policy = parse('version = 1\nallow = ["read", "call_of_the_future"]')
    assert compile_policy(policy) == compile_policy(parse('version = 1\nallow = ["read"]'))
