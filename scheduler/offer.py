"""What a ledger has for one demand, node by node; each node is looked at once, and only where it matters. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from scheduler.capacity import MILLI, Ledger
from scheduler.cores import Free, Picked, fill, free_of, level, pick
from scheduler.demand import Demand


@dataclass(slots=True)
class Offer:
    """Good while the ledger does not change."""

    ledger: Ledger
    demand: Demand
    headroom: bool
    _memory: dict[int, int] = field(default_factory=dict)
    _count: dict[int, int] = field(default_factory=dict)
    _free: dict[int, tuple[tuple[int, Free], ...]] = field(default_factory=dict)
    _roomy: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _instances: dict[str, dict[int, list[int]]] = field(default_factory=dict)

    def memory(self, node: int) -> int:
        """Bytes."""
        if node not in self._memory:
            self._memory[node] = max(0, self.ledger.free_memory(node, headroom=self.headroom))
        return self._memory[node]

    def count(self, node: int) -> int:
        """CPUs that nobody has anything of."""
        if node not in self._count:
            self._count[node] = self.ledger.free_count(node)
        return self._count[node]

    def enough(self, nodes: Iterable[int]) -> bool:
        """False when these nodes can't do; quick."""
        wanted = self.demand.cpus
        if wanted and sum(map(self.count, nodes)) < wanted:
            return False
        return sum(map(self.memory, nodes)) >= self.demand.memory_bytes

    def instances(self, name: str) -> dict[int, list[int]]:
        """Memory node → the free instances of a generic resource there; -1: those of no node."""
        if name not in self._instances:
            held, found = self.ledger.generic, dict[int, list[int]]()
            known = self.ledger.capacity.generic.get(name)
            for number, instance in enumerate(known.instances if known else ()):
                if instance.there and (name, number) not in held:
                    found.setdefault(instance.node, []).append(number)
            self._instances[name] = found
        return self._instances[name]

    def has_generic(self) -> bool:
        return all(sum(map(len, self.instances(name).values())) >= count for name, count in self.demand.generic)

    def generic(self, nodes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Name → instances: the nearest to these nodes, of equals those of few nodes. There must be so many."""
        return {name: self._nearest_of(name, count, nodes) for name, count in self.demand.generic}

    def _nearest_of(self, name: str, wanted: int, nodes: tuple[int, ...]) -> tuple[int, ...]:
        free, far, taken = self.instances(name), dict[int, list[int]](), list[int]()
        for node in free:
            far.setdefault(self.ledger.capacity.away(node, nodes), []).append(node)
        for _, alike in sorted(far.items()):
            counts = fill({node: len(free[node]) for node in alike}, wanted - len(taken))
            taken += [number for node, count in counts.items() for number in free[node][:count]]
        return tuple(sorted(taken))

    def away(self, nodes: tuple[int, ...]) -> int:
        """How far the generic resources would be from these nodes; 0: none is elsewhere."""
        known, away = self.ledger.capacity.generic, self.ledger.capacity.away
        rows = (*self.generic(nodes).items(), *self.demand.kept)
        return sum(
            away(known[name].instances[number].node, nodes)
            for name, numbers in rows
            for number in numbers
            if name in known and number < len(known[name].instances)
        )

    def beside(self, nodes: tuple[int, ...]) -> int:
        """Free generic resources of these nodes, for which CPUs near them are worth keeping."""
        return sum(len(self.instances(name).get(node, ())) for name in self.ledger.capacity.generic for node in nodes)

    def cpus(self, nodes: Iterable[int]) -> Picked | None:
        """Of one kind of cores if possible: whole CPUs of the fastest, fractions of the slowest that have room."""
        choose = self._exclusive if self.demand.cpus else self._shared
        kinds = self.ledger.capacity.kinds
        if len(kinds) > 1:
            for kind in kinds if self.demand.cpus else reversed(kinds):
                if (picked := choose(nodes, (kind,))) is not None:
                    return picked
        return choose(nodes, kinds)

    def _exclusive(self, nodes: Iterable[int], kinds: Collection[int]) -> Picked | None:
        whole = self.demand.whole_cores
        free = {node: [part for kind, part in self._parts(node) if kind in kinds] for node in nodes}
        counts = self._counts({node: sum(part.room(whole) for part in free[node]) for node in free})
        picks = (pick(free[node], count, whole) for node, count in sorted(counts.items()))
        return sum(picks, Picked()) if counts else None

    def _shared(self, nodes: Iterable[int], kinds: Collection[int]) -> Picked | None:
        roomy = {node: [cpu for kind, cpu in self._with_room(node) if kind in kinds] for node in nodes}
        counts = self._counts({node: len(cpus) for node, cpus in roomy.items()})
        cpus = (cpu for node, count in sorted(counts.items()) for cpu in self._of_few_parts(roomy[node], count))
        return Picked(tuple(cpus)) if counts else None

    def _of_few_parts(self, roomy: list[int], count: int) -> list[int]:
        """The first `count`, but of one part if one has so many: that where the least is left beside them."""
        if count == 1:
            return roomy[:1]
        parts: dict[int, list[int]] = {}
        for cpu in roomy:
            parts.setdefault(self.ledger.capacity.part_of[cpu], []).append(cpu)

        def left(part: int, count: int) -> int:
            return sum(map(self.ledger.milli_left, parts[part][:count]))

        counts = fill({part: len(cpus) for part, cpus in parts.items()}, count, left)
        return [cpu for part, count in sorted(counts.items()) for cpu in parts[part][:count]]

    def _counts(self, room: dict[int, int]) -> dict[int, int]:
        """Node → CPUs; {} when there are not enough."""
        if sum(room.values()) < self.demand.wide:
            return {}
        return (level if self.demand.numa == "spread" else fill)(room, self.demand.wide)

    def _parts(self, node: int) -> tuple[tuple[int, Free], ...]:
        """(kind, what is free) of each part."""
        if node not in self._free:
            parts = self.ledger.capacity.parts[node]
            self._free[node] = tuple(
                (part.kind, free_of(part, self.ledger.owner, self.ledger.shared)) for part in parts
            )
        return self._free[node]

    def _with_room(self, node: int) -> list[tuple[int, int]]:
        """(kind, CPU) with room for a fraction: the fullest first, so that free ones stay free; of free ones those on a
        broken core, so that whole cores stay whole; threads of one core together.
        """
        if node not in self._roomy:
            ledger, most = self.ledger, MILLI - self.demand.milli_each
            owner, shared, kind_of, core_of = (
                ledger.owner,
                ledger.shared,
                ledger.capacity.kind_of,
                ledger.capacity.core_of,
            )
            roomy = [cpu for cpu in ledger.capacity.node[node].cpus if cpu not in owner and shared.get(cpu, 0) <= most]
            ordered = sorted(
                (-shared.get(cpu, 0), self._untouched(cpu), kind_of[cpu], core_of[cpu], cpu) for cpu in roomy
            )
            self._roomy[node] = [(kind, cpu) for _, _, kind, _, cpu in ordered]
        return self._roomy[node]

    def _untouched(self, cpu: int) -> int:
        """Threads of the CPU's core, when nobody has anything of any of them; else 0."""
        core = self.ledger.capacity.core_of[cpu]
        return len(core) if all(map(self.ledger.is_free, core)) else 0
