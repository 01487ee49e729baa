"""Sixteen jobs that ask for different places on a host of eight CPUs on four nodes, and what each must get.

Sizes are modest: an emulated machine touches some 100 MiB a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kernel_account import Account

MIB = 1 << 20
HUGE = 2 * MIB
SLACK = 8 * MIB  # stacks, heap and linker data of a few processes, which are anonymous memory too

Expectation = Callable[[Account], str]  # what is wrong, or nothing


@dataclass(frozen=True)
class Asked:
    """`mib` are touched by each of `threads` threads of each of `processes`, from huge pages if `hugepages` are asked
    for. Jobs of one wave run at the same time and are placed in the order of the table, on an empty machine: so it is
    known what is possible.
    """

    wave: int
    name: str
    cpus: float
    numa: str  # as in TOML
    expected: tuple[Expectation, ...]
    processes: int = 1
    threads: int = 1
    mib: int = 16
    limit_mib: int = 96
    cores: str = "shared"
    hugepages: int = 0  # of 2 MiB

    @property
    def touched(self) -> int:
        return self.processes * self.threads * self.mib * MIB

    def words(self) -> str:
        """For the table."""
        whole = ", whole cores" if self.cores == "whole" else ""
        return f"{self.cpus:g} CPU, {self.limit_mib} MiB, numa = {self.numa}{whole}"

    def toml(self, tools: str) -> str:
        cores = '\ncores = "whole"' if self.cores == "whole" else ""
        words = ["/mnt/touch", str(self.processes), str(self.threads), str(self.mib), *["huge"] * bool(self.hugepages)]
        pages = f', hugepages = {{ "2MiB" = {self.hugepages} }}' if self.hugepages else ""
        return f"""
name = "{self.name}"
command = {json.dumps(words)}
resources = {{ cpus = {self.cpus}, memory = "{self.limit_mib}MiB"{pages} }}
network = {{ mode = "none" }}
mounts = [{{ source = "{tools}", target = "/mnt" }}]
[placement]
numa = {self.numa}{cores}
"""


# ── expectations ────────────────────────────────────────────────────────────────────────────────────────────────────


def wide(cpus: int) -> Expectation:
    return lambda seen: "" if len(seen.cpus) == cpus else f"{len(seen.cpus)} CPUs instead of {cpus}"


def on_nodes(*nodes: int) -> Expectation:
    """Exactly these, for memory; CPUs on some of them."""
    return lambda seen: (
        "" if seen.mems == nodes and set(seen.nodes_of_cpus()) <= set(nodes) else f"not on nodes {nodes}: {seen.mems}"
    )


def cpus_over(nodes: int) -> Expectation:
    return lambda seen: (
        "" if len(seen.nodes_of_cpus()) == nodes else f"CPUs on nodes {seen.nodes_of_cpus()}, not on {nodes} of them"
    )


def one_node(seen: Account) -> str:
    return "" if seen.mems == seen.nodes_of_cpus() and len(seen.mems) == 1 else f"memory on {seen.mems}"


def several_nodes(seen: Account) -> str:
    return "" if len(used(seen.private)) > 1 else f"pages on {used(seen.private)} only"


def even(mappings: int) -> Expectation:
    """The policy is the one that makes it so, and every node of the job has its part, give or take a tenth, and a huge
    page for each mapping: transparent huge pages go round in steps of that size.
    """

    def complaint(seen: Account) -> str:
        if not any(policy.startswith("interleave") for policy in seen.policies):
            return f"no interleaving: {sorted(seen.policies)}"
        part = sum(seen.private.values()) / len(seen.mems)
        slack = part / 10 + mappings * HUGE
        uneven = {node: size for node, size in seen.private.items() if abs(size - part) > slack}
        return f"uneven: {uneven}, each should have {part:.0f}" if uneven else ""

    return complaint


def first_touch(seen: Account) -> str:
    return "" if seen.policies <= {"default", "prefer"} else f"a policy that nobody asked for: {sorted(seen.policies)}"


def used(sizes: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(sorted(node for node, size in sizes.items() if size > SLACK))


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────


def sixteen(node_bytes: int) -> tuple[Asked, ...]:
    """`node_bytes`: what jobs can get of the smallest node. One job does not fit on it and must lie on two."""
    too_much = node_bytes // MIB + node_bytes // MIB // 4
    half = node_bytes // MIB // 2
    return (
        Asked(1, "spread-4", 4, '"spread"', (wide(4), cpus_over(4), even(1)), mib=64),
        Asked(1, "node-2", 1, "[2]", (wide(1), on_nodes(2), first_touch)),
        Asked(1, "local-1", 1, '"local"', (wide(1), one_node, first_touch)),
        Asked(1, "half-cpu", 0.5, '"local"', (wide(1), one_node)),
        Asked(1, "quarter-cpu", 0.25, '"local"', (wide(1), one_node)),
        Asked(1, "processes", 1, '"local"', (wide(1), one_node), processes=3, threads=2, mib=8),
        Asked(2, "node-3-all", 2, "[3]", (wide(2), on_nodes(3)), threads=2),
        Asked(2, "nodes-1-3", 2, "[1, 3]", (wide(2), on_nodes(1, 3), first_touch), processes=2),
        Asked(2, "local-2", 2, '"local"', (wide(2), one_node, first_touch), threads=4),
        Asked(2, "one-and-a-half", 1.5, '"local"', (wide(2), one_node), threads=2),
        Asked(3, "too-much-for-one", 1, '"local"', (wide(1), several_nodes), mib=too_much - 16, limit_mib=too_much),
        Asked(3, "local-4", 4, '"local"', (wide(4), cpus_over(2), first_touch), threads=4),
        Asked(3, "any-3", 3, '"any"', (wide(3), first_touch), threads=3),
        Asked(4, "half-a-node", 1, '"local"', (wide(1), one_node), mib=half - 16, limit_mib=half),
        Asked(4, "spread-2", 2, '"spread"', (wide(2), cpus_over(2), even(1)), mib=48),
        Asked(5, "spread-8", 8, '"spread"', (wide(8), cpus_over(4), even(8)), threads=8, mib=32, limit_mib=288),
    )
