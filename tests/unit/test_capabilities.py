"""The rule that turns skips into failures, and that leaks are seen."""

from __future__ import annotations

import os
from collections import Counter

import capabilities
import leaks
import pytest


@pytest.mark.parametrize(
    ("reason", "promises", "fails"),
    [
        ("needs cgroup1.freezer: not here", "", False),
        ("needs cgroup1.freezer: not here", "cgroup2", False),
        ("needs cgroup1.freezer: not here", "cgroup2,cgroup1.freezer", True),
        ("the moon is full", "cgroup2", True),
        ("the moon is full", "", False),
    ],
)
def test_a_skip_is_a_failure_where_the_host_promises_it(reason: str, promises: str, fails: bool) -> None:
    assert bool(capabilities.verdict(reason, capabilities.required(promises))) is fails


def test_every_promised_name_is_defined() -> None:
    for name in [*capabilities.ALWAYS_WITH_ROOT, *capabilities.promised()]:
        capabilities.missing(name)


def test_what_is_missing_is_said() -> None:
    assert capabilities.skip_reason(["tool.sh", "tool.no-such-program"]) == (
        "needs tool.no-such-program: no program no-such-program on PATH"
    )


def test_a_leak_is_named_as_often_as_it_is_there() -> None:
    before = leaks.Picture({"mount": Counter(["/a", "/b"])})
    after = leaks.Picture({"mount": Counter(["/a", "/a", "/b", "/c"]), "link": Counter(["veth0"])})
    assert after.left(before) == ["mount /a", "mount /c", "link veth0"]
    assert before.left(after) == []


def test_a_real_descriptor_is_seen() -> None:
    before = leaks.take("run")
    namespace = os.open("/proc/self/ns/uts", os.O_RDONLY)
    try:
        assert "descriptor uts:" in leaks.take("run").left(before)
    finally:
        os.close(namespace)
    assert "descriptor uts:" not in leaks.take("run").left(before)
