"""Files of /proc/PID as values. Pure: texts in, values out; fields that a kernel does not have are left out."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from jobs.inspection import Region, Socket

STATES = {
    "R": "running", "S": "sleeping", "D": "uninterruptible", "T": "stopped", "t": "traced", "Z": "zombie",
    "X": "dead", "I": "idle", "P": "parked",
}  # fmt: skip
_TCP = {
    1: "established", 2: "syn sent", 3: "syn received", 4: "fin wait 1", 5: "fin wait 2", 6: "time wait", 7: "closed",
    8: "close wait", 9: "last ack", 10: "listening", 11: "closing",
}  # fmt: skip
_UNIX = {1: "unconnected", 2: "connecting", 3: "connected", 4: "disconnecting"}
_NUMA_NODE = re.compile(r"N(\d+)=(\d+)")


class Stat(NamedTuple):
    """Of /proc/PID/stat. `ticks`: user and system time."""

    name: str
    state: str
    parent: int
    ticks: int
    cpu: int


def stat(text: str) -> Stat:
    """The name stands in the last pair of brackets: it may hold brackets and blanks itself."""
    before, _, after = text.rpartition(")")
    rest = after.split()
    return Stat(before.partition("(")[2], rest[0], int(rest[1]), int(rest[11]) + int(rest[12]), int(rest[36]))


def status(text: str) -> dict[str, str]:
    """`Name:\tvalue` lines."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def own_number(fields: dict[str, str], name: str) -> int:
    """Of NSpid, NStgid …: the number in the innermost namespace."""
    return int(fields[name].split()[-1])


class RawCall(NamedTuple):
    """Of /proc/PID/syscall. `number` is None for a thread that is in user space."""

    number: int | None
    arguments: tuple[int, ...]
    stack_pointer: int
    program_counter: int


def syscall(text: str) -> RawCall | None:
    """None while the thread runs."""
    words = text.split()
    if not words or words[0] == "running":
        return None
    number, *values = int(words[0]), *(int(word, 16) for word in words[1:])
    if len(values) < 8:
        return RawCall(None, (), values[-2] if len(values) > 1 else 0, values[-1] if values else 0)
    return RawCall(number if number >= 0 else None, tuple(values[:6]), values[6], values[7])


def fdinfo(text: str) -> tuple[int, str]:
    """(offset, mode)."""
    found = status(text)
    flags = int(found.get("flags", "0"), 8)
    return int(found.get("pos", "0")), ("r", "w", "rw", "")[flags & 3]


# ── sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def inet_sockets(text: str, kind: str) -> dict[int, Socket]:
    """Of /proc/PID/net/tcp and its like: inode → socket."""
    found = {}
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 10:
            continue
        send, receive = (int(size, 16) for size in words[4].split(":"))
        state = int(words[3], 16)
        said = _TCP.get(state, "") if kind.startswith("tcp") else {1: "connected", 7: "unconnected"}.get(state, "")
        peer = address(words[2])
        found[int(words[9])] = Socket(kind, address(words[1]), "" if peer.endswith(":0") else peer, said, receive, send)
    return found


def address(text: str) -> str:
    """`0100007F:1F90` → `127.0.0.1:8080`; each word of 32 bits is in this host's order."""
    host, _, port = text.partition(":")
    words = struct.pack(f"={len(host) // 8}I", *(int(host[at : at + 8], 16) for at in range(0, len(host), 8)))
    if len(words) == 4:
        return f"{'.'.join(map(str, words))}:{int(port, 16)}"
    groups = ":".join(f"{words[at] << 8 | words[at + 1]:x}" for at in range(0, 16, 2))
    return f"[{re.sub(r'(^|:)(0(:|$)){2,}', '::', groups, count=1)}]:{int(port, 16)}"


def unix_sockets(text: str) -> dict[int, Socket]:
    """Of /proc/PID/net/unix. Its peer is not told there."""
    found = {}
    for line in text.splitlines()[1:]:
        words = line.split(maxsplit=7)
        if len(words) < 7:
            continue
        state = "listening" if int(words[3], 16) & 0x10000 else _UNIX.get(int(words[5], 16), "")
        found[int(words[6])] = Socket("unix", words[7] if len(words) > 7 else "", state=state)
    return found


# ── locks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RawLock:
    """Of /proc/locks, with the pid of whoever reads it. `file`: (major, minor, inode)."""

    pid: int
    kind: str
    mode: str
    file: tuple[int, int, int]
    waiting: bool


def locks(text: str) -> list[RawLock]:
    """Those on files whose inode is told."""
    found = []
    for line in text.splitlines():
        words = line.split()
        waiting = words[1] == "->"
        words = words[2:] if waiting else words[1:]
        if len(words) < 5 or words[4].count(":") != 2:
            continue
        major, minor, inode = words[4].split(":")
        file = int(major, 16), int(minor, 16), int(inode)
        found.append(RawLock(int(words[3]), words[0], words[2], file, waiting))
    return found


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def numa_maps(text: str) -> list[Region]:
    """Of /proc/PID/numa_maps, those of the same name added up, the largest first."""
    found: dict[str, dict[int, int]] = {}
    for line in text.splitlines():
        words = line.split()
        pages = {int(node): int(count) for word in words for node, count in _NUMA_NODE.findall(word)}
        if not pages:
            continue
        size = next((int(word[18:]) << 10 for word in words if word.startswith("kernelpagesize_kB=")), 4096)
        total = found.setdefault(_region_name(words), {})
        for node, count in pages.items():
            total[node] = total.get(node, 0) + count * size
    regions = [Region(name, sum(nodes.values()), dict(sorted(nodes.items()))) for name, nodes in found.items()]
    return sorted(regions, key=lambda region: (-region.resident, region.name))


def _region_name(words: list[str]) -> str:
    for word in words:
        if word.startswith("file="):
            return word[5:].replace("\\040", " ")
        if word in ("heap", "stack"):
            return f"[{word}]"
    return "[anonymous]"


class Mapping(NamedTuple):
    """A line of /proc/PID/maps. `offset`: in the file."""

    start: int
    end: int
    offset: int
    path: str
    executable: bool


def maps(text: str) -> list[Mapping]:
    found = []
    for line in text.splitlines():
        words = line.split(maxsplit=5)
        start, _, end = words[0].partition("-")
        path = words[5] if len(words) > 5 else ""
        found.append(Mapping(int(start, 16), int(end, 16), int(words[2], 16), path, "x" in words[1]))
    return found


def place_of(address: int, mappings: list[Mapping]) -> str:
    """`/usr/lib/libc.so.6+0x8812b`, or ""."""
    for each in mappings:
        if each.start <= address < each.end:
            return f"{each.path or '[anonymous]'}+{address - each.start + each.offset:#x}"
    return ""
