"""Re-homing a frozen job: its pages move to another memory node. Needs two nodes (tests/vm has them)."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from jobs import cpuset as lists
from runtime.cgroups.files import read
from runtime.cgroups.limits import Limits

PAGES = 8192  # 32 MiB
GENEROUS = Limits(memory_bytes=256 << 20)


def pages_by_node(pid: int) -> dict[int, int]:
    """Anonymous pages of a process, by node; from numa_maps."""
    found: dict[int, int] = {}
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        if " anon=" in line:
            for node, count in re.findall(r" N(\d+)=(\d+)", line):
                found[int(node)] = found.get(int(node), 0) + int(count)
    return found


def test_pages_of_a_frozen_process_follow(bench):
    nodes = lists.parse(read("/sys/devices/system/node/has_memory"))
    if len(nodes) < 2:
        pytest.skip("needs numa.2: one memory node only")
    first, second = nodes[:2]
    group = bench.group(replace(GENEROUS, mems=(first,)))
    code = f"x = bytearray({PAGES} * 4096); print(flush=True); import signal; signal.pause()"
    process = bench.start(group, [sys.executable, "-c", code])
    process.stdout.readline()
    assert pages_by_node(process.pid).get(first, 0) >= PAGES
    anyio.run(group.freezer.freeze, 5.0)
    group.apply(replace(GENEROUS, mems=(second,)))
    after = pages_by_node(process.pid)
    assert after.get(second, 0) >= PAGES * 9 // 10, after
    assert group.freezer.is_frozen()
    anyio.run(group.freezer.thaw)
