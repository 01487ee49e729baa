"""What this host promises it has: the names in JOBS_TEST_REQUIRE, asked one by one. Each guest runs this first."""

from __future__ import annotations

import capabilities


def test_every_promise_is_kept() -> None:
    reasons = {name: capabilities.missing(name) for name in sorted(capabilities.required())}
    assert {name: reason for name, reason in reasons.items() if reason} == {}
