"""A machine as text: an indented tree, each core a word of one sign a thread, equal lines folded into one. Pure.

    socket 0
      memory node 0   62.8GiB   [####............]  16.0GiB given, 46.3GiB free
        L3 16.0MiB   0-7,64-71     aa aa ab ·· ·· ·· ·- ··

Letters are jobs (capitals: frozen ones); what the other signs mean stands below, for those that occur.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from string import ascii_lowercase

from jobs import cpuset
from jobs.machine import Block, Node, Part, Resource, Thread, View
from jobs.protocol import Placed
from jobs.render import printable
from jobs.render_page import generic_of
from jobs.units import render_size

_SIGNS = {"free": "·", "idle": "-", "several": "%", "offline": "×", "isolated": "!", "outside": "?"}
MEANS = {
    "free": "free",
    "idle": "kept idle, for a job that shares no core",
    "several": "shared by several jobs",
    "offline": "offline",
    "isolated": "isolated (isolcpus): not given to jobs",
    "outside": "not this daemon's to give (cpuset or affinity)",
}
_BAR = 20  # characters
_LONG_LIST = 32  # of CPUs
_KINDS = {"performance": "fast", "middle": "middle", "efficiency": "slow", "": ""}


def draw(view: View, width: int = 100) -> str:
    labels = _labels(view.placed)
    lines = [title_of(view), ""]
    for block in view.blocks:
        lines += _block(block, labels, width)
    lines += _distances(view)
    lines += ["", *map(generic_line, view.generic)] if view.generic else []
    signs = dict.fromkeys(_use(thread) for thread in _threads(view))
    lines += ["", "  ".join(f"{_SIGNS[use]} {MEANS[use]}" for use in _SIGNS if use in signs)]
    if view.placed:
        lines += ["", *(f"{label}  {says}" for label, (_, says) in zip(labels, jobs_table(view), strict=True))]
    return "\n".join(line.rstrip() for line in lines)


def _labels(placed: tuple[Placed, ...]) -> list[str]:
    """Letters: a … z, or as many letters as it takes for all to be of one length. Frozen jobs have capitals."""
    size, most = 1, 26
    while len(placed) > most:
        size, most = size + 1, most * 26
    found = []
    for number, job in enumerate(placed):
        letters = ""
        for _ in range(size):
            number, digit = divmod(number, 26)
            letters = ascii_lowercase[digit] + letters
        found.append(letters.upper() if job.state == "frozen" else letters)
    return found


def title_of(view: View) -> str:
    threads = list(_threads(view))
    cores = [core for node in view.nodes for part in node.parts for core in part.cores]
    sockets = len({socket for block in view.blocks for socket in block.sockets})
    memory = sum(node.memory_bytes for node in view.nodes)
    counts = [_count(sockets, "socket")] if sockets else []
    counts += [_count(sum(node.id >= 0 for node in view.nodes), "memory node"), _count(len(cores), "core"),
               _count(len(threads), "CPU"), render_size(memory)]  # fmt: skip
    return f"{printable(view.title)}: {', '.join(counts)}" + (f"   {printable(view.model)}" if view.model else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _threads(view: View) -> Iterator[Thread]:
    return (thread for node in view.nodes for part in node.parts for core in part.cores for thread in core)


def _block(block: Block, labels: list[str], width: int) -> list[str]:
    if not block.sockets:
        title = "no socket"
    else:
        title = f"socket{'s' if len(block.sockets) > 1 else ''} {cpuset.render(block.sockets)}"
    lines = [title]
    same: list[tuple[tuple[object, ...], list[Node]]] = []
    for node in block.nodes:
        alike = _shape(node)
        if same and alike and same[-1][0] == alike:
            same[-1][1].append(node)
        else:
            same.append((alike, [node]))
    for _, nodes in same:
        lines += _nodes(nodes, labels, width)
    return lines


def _shape(node: Node) -> tuple[object, ...]:
    """Equal for nodes that may be drawn as one; () for those of which something is given or missing, and -1."""
    parts = tuple(_part_shape(part) for part in node.parts)
    if node.held or node.id < 0 or not all(parts):
        return ()
    return (round(node.memory_bytes / (1 << 30), 1), node.hugepages, node.for_jobs_bytes >= 0, *parts)


def _part_shape(part: Part) -> tuple[object, ...]:
    if any(thread.use != "free" for core in part.cores for thread in core):
        return ()
    size = part.cache.size_bytes if part.cache else 0
    return (part.kind, size, tuple(len(core) for core in part.cores))


def _nodes(nodes: list[Node], labels: list[str], width: int) -> list[str]:
    first = nodes[0]
    if first.id < 0:
        lines = ["  of no known memory node"]
    elif len(nodes) > 1:
        ids = cpuset.render(node.id for node in nodes)
        lines = [f"  memory nodes {ids}, all alike, each   {_memory(first)}"]
    else:
        lines = [f"  memory node {first.id}   {_memory(first)}"]
    lines += [f"    pages of {render_size(size)}: {total}, {free} free" for size, total, free in first.hugepages]
    if len(nodes) > 1:  # all free and alike: the parts of the first stand for all
        every = [part for node in nodes for part in node.parts]
        parts = [(part, [other for other in every if _part_shape(other) == _part_shape(part)])
                 for part in {_part_shape(part): part for part in every}.values()]  # fmt: skip
    else:
        parts = _folded(first.parts)
    rows = [(what_of(part, len(alike) // len(nodes)), _cpus(alike), _cores(part, labels)) for part, alike in parts]
    wide = max((len(what) for what, _, _ in rows), default=0)
    middle = max((len(cpus) for _, cpus, _ in rows), default=0)
    below = middle > _LONG_LIST  # then the cores have lines of their own
    for what, cpus, cores in rows:
        head = f"    {what:<{wide}}   {cpus:<{middle}}   "
        lines += [head] if below else []
        lines += _wrapped(" " * 8 if below else head, cores, width)
    return lines


def _folded(parts: tuple[Part, ...]) -> list[tuple[Part, list[Part]]]:
    found: list[tuple[Part, list[Part]]] = []
    for shape, group in groupby(parts, key=_part_shape):
        alike = list(group)
        if shape and len(alike) > 1:
            found.append((alike[0], alike))
        else:
            found += [(part, [part]) for part in alike]
    return found


def what_of(part: Part, count: int = 1) -> str:
    if part.cache:
        what = f"L{part.cache.level} {render_size(part.cache.size_bytes)}" if part.cache.size_bytes else (
            f"L{part.cache.level}"
        )  # fmt: skip
    else:
        what = "CPUs"
    times = f"{count} × " if count > 1 else ""
    kind = _KINDS.get(part.kind, part.kind)
    return f"{times}{what}" + (f" {kind}" if kind else "")


def _cpus(parts: list[Part]) -> str:
    return cpuset.render(cpu for part in parts for cpu in part.cpus)


def _wrapped(head: str, cores: list[str], width: int) -> list[str]:
    """Between cores; what follows stands below the first."""
    lines, line = [], head
    for core in cores:
        if len(line) + len(core) > width and line.strip():
            lines.append(line)
            line = " " * len(head)
        line += f"{core} "
    return [*lines, line]


def _cores(part: Part, labels: list[str]) -> list[str]:
    size = len(labels[0]) if labels else 1
    return ["".join(_sign(thread, labels).rjust(size) for thread in core) for core in part.cores]


def _sign(thread: Thread, labels: list[str]) -> str:
    if thread.use in ("given", "shared") and len(thread.holders) == 1:
        return labels[thread.holders[0]]
    return _SIGNS[_use(thread)]


def _use(thread: Thread) -> str:
    if thread.use in ("given", "shared"):
        return "several" if len(thread.holders) > 1 else "job"
    return thread.use


def _memory(node: Node) -> str:
    """Its size; with a daemon, what of it is for jobs: # given, . free, = kept for the host and for huge pages."""
    if node.for_jobs_bytes < 0:
        return render_size(node.memory_bytes)
    total = max(1, node.memory_bytes)
    given = round(_BAR * node.given_bytes / total)
    kept = round(_BAR * (node.memory_bytes - node.for_jobs_bytes) / total)
    bar = "#" * given + "." * max(0, _BAR - given - kept) + "=" * min(kept, _BAR - given)
    free = max(0, node.for_jobs_bytes - node.given_bytes)
    return (
        f"{render_size(node.memory_bytes)}   [{bar}]  {render_size(node.given_bytes)} given, {render_size(free)} free"
    )


def _distances(view: View) -> list[str]:
    """A table, where not all nodes are equally far from each other."""
    if not view.distances:
        return []
    ids = [node for node, _ in view.distances]
    wide = max(3, *(len(str(node)) for node in ids)) + 1
    head = "distance " + "".join(f"{node:>{wide}}" for node in ids)
    rows = [f"{node:>8} " + "".join(f"{far or '?':>{wide}}" for far in row) for node, row in view.distances]
    return ["", head, *rows]


def generic_line(item: Resource) -> str:
    """`gpu: 4, 1 free; memory node 0: 0-1, memory node 1: 2-3`"""
    places = [f"memory node {node}: {cpuset.render(numbers)}" for node, numbers in item.where if node >= 0]
    return f"{item.name}: {item.total}, {item.free} free" + (f"; {', '.join(places)}" if places else "")


def jobs_table(view: View) -> list[tuple[Placed, str]]:
    """Each job with what it has, in words."""
    held: dict[int, list[str]] = {}
    for node in view.nodes:
        for number, size in node.held:
            held.setdefault(number, []).append(f"node {node.id} {render_size(size)}")
    return [
        (job, f"{_who(job)}, {job.state}: {_cpus_of(job)}; memory: {', '.join(held.get(number, ['none']))}"
              f"{'; ' if job.generic else ''}{generic_of(job.generic)}")
        for number, job in enumerate(view.placed)
    ]


def _who(job: Placed) -> str:
    return f"job {job.job} {printable(job.name)} of {printable(job.owner)}" if job.job else "somebody else's job"


def _cpus_of(job: Placed) -> str:
    if not job.cpus:
        return "no CPUs"
    text = f"CPUs {cpuset.render(job.cpus)}"
    if not job.exclusive:
        return f"{text}, shared, {job.shares:g} in all"
    return text + (f", {cpuset.render(job.idle)} idle" if job.idle else "")
