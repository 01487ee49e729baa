"""Reads tar headers strictly: ustar, GNU long names, pax. What two programs could read differently is refused. Pure.

Written for hostile input: Python's tarfile is no shield (its filters were bypassed again and again) and keeps every
member in memory. Sources: POSIX.1-2017 pax, tar(5) of libarchive, GNU tar's manual "Basic Tar Format".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from runtime.images.limits import Limits, Refused

BLOCK = 512
_REGULAR = frozenset(b"0\0" + b"7")  # 7: contiguous file, the same to everybody
_KINDS = {"1": "hardlink", "2": "symlink", "3": "device", "4": "device", "5": "dir", "6": "fifo"}
_GLOBAL_FORBIDDEN = frozenset({"path", "linkpath", "size", "uid", "gid", "hdrcharset"})
_MTIME_END_S = 1 << 34  # the last second that ext4 can store


class Stream(Protocol):
    def read(self, count: int) -> bytes:
        """Up to `count` bytes; b"" only at the end."""

    def skip(self, count: int) -> None:
        """Raises Refused when the stream ends before."""


@dataclass(frozen=True, slots=True)
class Member:
    """`path` is relative and clean: no empty, `.` or `..` component; "" is the root itself. Names are fs-decoded."""

    path: str
    kind: str  # file | dir | symlink | hardlink | device | fifo
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link: str = ""  # the target: as written for a symlink, cleaned for a hardlink
    xattrs: dict[str, bytes] = field(default_factory=dict)


class TarReader:
    """Iterate `members()`; between two steps the data of a file may be taken with `read_data`, the rest is skipped."""

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._left = 0  # bytes of data of the current member not yet taken
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """Ends after the two zero blocks and checks that only zeros follow. Raises Refused."""
        while (header := self._next_header()) is not None:
            member = self._member(header)
            self._left = member.size
            self._padding = -member.size % BLOCK
            yield member
            self._stream.skip(self._left + self._padding)
        self._only_zeros_follow()

    def read_data(self, count: int = 1 << 20) -> bytes:
        """The next piece of the current member; b"" at its end."""
        if not self._left:
            return b""
        data = self._stream.read(min(count, self._left))
        if not data:
            raise Refused("the archive ends in the middle of a file")
        self._left -= len(data)
        return data

    def _next_header(self) -> bytes | None:
        block = self._exactly(BLOCK, end_is_fine=True)
        if not block:
            raise Refused("the archive ends without its end mark: it was cut off")
        if block.count(0) != BLOCK:
            return block
        if self._exactly(BLOCK).count(0) != BLOCK:
            raise Refused("a zero block in the middle of the archive: programs differ in what follows")
        return None

    def _only_zeros_follow(self) -> None:
        while block := self._stream.read(1 << 16):
            if block.count(0) != len(block):
                raise Refused("data after the end of the archive: programs differ in reading it")

    def _exactly(self, count: int, *, end_is_fine: bool = False) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._stream.read(count - len(data))
            if not piece:
                if end_is_fine and not data:
                    return b""
                raise Refused("the archive ends in the middle of a header")
            data += piece
        return bytes(data)

    def _member(self, block: bytes) -> Member:
        """Follows extension headers until the member that they describe."""
        records: dict[str, bytes] = {}
        spent = 0
        while True:
            header = _Header(block)
            if header.type in "xgLK":
                spent += header.size + BLOCK
                if spent > self._limits.header_bytes:
                    raise Refused(f"extended headers of one member have more than {self._limits.header_bytes} bytes")
                self._extend(header, records)
                block = self._exactly(BLOCK)
                if block.count(0) == BLOCK:
                    raise Refused("an extended header describes nothing")
            else:
                return header.member(records, self._limits)

    def _extend(self, header: _Header, records: dict[str, bytes]) -> None:
        size = header.size
        data = self._exactly(size + -size % BLOCK)[:size]
        if header.type in "LK":
            key = "path" if header.type == "L" else "linkpath"
            found = {key: data.rstrip(b"\0")}
        else:
            found = _pax_records(data)
        if header.type == "g":
            bad = sorted(key for key in found if key in _GLOBAL_FORBIDDEN or key.startswith("GNU.sparse"))
            if bad:
                raise Refused(f"a global header sets {', '.join(bad)} for every member")
            return  # what else it may say (comments, times) concerns nothing that we keep
        twice = sorted(found.keys() & records.keys())
        if twice:
            raise Refused(f"two extended headers set {', '.join(twice)} of one member")
        records.update(found)


def _pax_records(data: bytes) -> dict[str, bytes]:
    """`LENGTH key=value\\n` …, LENGTH counting itself. A later record of a key would win: two are refused."""
    records: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise Refused("a pax record without its length")
        end = at + int(digits)
        record = data[space + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end > len(data) or end <= space + 1 or record[-1:] != b"\n" or not equals or not key:
            raise Refused("a pax record that is not `length key=value`")
        name = os.fsdecode(key)
        if name in records:
            raise Refused(f"two pax records of {name!r}")
        records[name] = value
        at = end
    return records


class _Header:
    """One 512-byte block whose checksum is right."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        stored = _number(block[148:156], "checksum")
        unsigned = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if stored != unsigned and stored != _signed_sum(block):  # some old programs added signed bytes
            raise Refused("not a tar header: its checksum is wrong")
        magic = block[257:265]
        self._posix = magic == b"ustar\x0000"
        if not self._posix and magic not in (b"ustar  \0", bytes(8)):
            raise Refused(f"an unknown kind of tar: {magic!r}")
        self.type = chr(block[156])
        self.size = _number(block[124:136], "size")

    def member(self, records: dict[str, bytes], limits: Limits) -> Member:
        raw = records.get("path", self._name())
        where = os.fsdecode(raw)
        if any(key.startswith("GNU.sparse") for key in records) or self.type == "S":
            raise Refused("a sparse file of GNU tar", member=where, hint="pack again without --sparse")
        kind = "file" if block_is_regular(self.type) else _KINDS.get(self.type)
        if kind is None:
            raise Refused(f"a member of unknown type {self.type!r}", member=where)
        if kind == "file" and raw.endswith(b"/"):
            if self.type != "\0":
                raise Refused("a file whose name ends in a slash", member=where)
            kind = "dir"  # as tar before 1988 wrote it
        size = _decimal(records["size"], "size", where) if "size" in records else self.size
        if kind != "file" and size:
            raise Refused(f"a {kind} with {size} bytes of data: programs differ in reading it", member=where)
        link = records.get("linkpath", _string(self._block[157:257]))
        return Member(
            path=clean_path(raw, limits),
            kind=kind,
            size=size,
            mode=_number(self._block[100:108], "mode") & 0o7777,
            uid=self._id(records, "uid", 108, where),
            gid=self._id(records, "gid", 116, where),
            mtime_ns=self._mtime(records, where),
            link=_link(kind, link, where, limits),
            xattrs=_xattrs(records),
        )

    def _name(self) -> bytes:
        name = _string(self._block[0:100])
        prefix = _string(self._block[345:500]) if self._posix else b""
        return prefix + b"/" + name if prefix else name

    def _id(self, records: dict[str, bytes], key: str, at: int, where: str) -> int:
        return _decimal(records[key], key, where) if key in records else _number(self._block[at : at + 8], key)

    def _mtime(self, records: dict[str, bytes], where: str) -> int:
        if "mtime" not in records:
            return min(_number(self._block[136:148], "mtime"), _MTIME_END_S) * 10**9
        whole, _, part = records["mtime"].partition(b".")
        if whole.startswith(b"-"):
            return 0
        nanoseconds = _decimal(part[:9].ljust(9, b"0"), "mtime", where) if part else 0
        return min(_decimal(whole, "mtime", where), _MTIME_END_S) * 10**9 + nanoseconds


def _signed_sum(block: bytes) -> int:
    return sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])


def block_is_regular(type_flag: str) -> bool:
    return ord(type_flag) in _REGULAR


def _number(field_bytes: bytes, name: str) -> int:
    """Octal with blanks around it, or base 256 (first bit set) as GNU and star write it. Never negative."""
    if field_bytes[0] == 0x80:
        return int.from_bytes(field_bytes[1:], "big")
    if field_bytes[0] == 0xFF:
        if name == "mtime":
            return 0  # before 1970
        raise Refused(f"a negative {name} in a tar header")
    digits = field_bytes.rstrip(b"\0 ").lstrip(b" ")
    if digits.strip(b"01234567"):
        raise Refused(f"a {name} in a tar header that is not a number: {field_bytes!r}")
    return int(digits or b"0", 8)


def _decimal(value: bytes, name: str, where: str) -> int:
    if not value.isdigit() or len(value) > 19:
        raise Refused(f"a {name} that is not a number: {value[:40]!r}", member=where)
    return int(value)


def _string(field_bytes: bytes) -> bytes:
    return field_bytes.partition(b"\0")[0]


def _link(kind: str, raw: bytes, where: str, limits: Limits) -> str:
    """A symlink's target is data and may say anything; a hardlink's is a path of this archive."""
    if kind == "hardlink":
        return clean_path(raw, limits)
    if kind != "symlink":
        return ""
    if not raw:
        raise Refused("a symbolic link without a target", member=where)
    if len(raw) > limits.path_bytes or b"\0" in raw:
        raise Refused("a symbolic link whose target is no path", member=where)
    return os.fsdecode(raw)


def _xattrs(records: dict[str, bytes]) -> dict[str, bytes]:
    start = "SCHILY.xattr."
    return {key[len(start) :]: value for key, value in records.items() if key.startswith(start)}


def clean_path(raw: bytes, limits: Limits) -> str:
    """A relative path without empty and `.` components. Raises Refused for what would leave the root or is no path."""
    where = os.fsdecode(raw[:200])
    if not raw:
        raise Refused("a member without a name")
    if raw.startswith(b"/"):
        raise Refused("an absolute name", member=where, hint="pack with relative names (tar without -P)")
    if b"\0" in raw or len(raw) > limits.path_bytes:
        raise Refused(f"a name that is no path or longer than {limits.path_bytes} bytes", member=where)
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise Refused("a name with '..' in it", member=where)
    if len(parts) > limits.depth:
        raise Refused(f"deeper than {limits.depth} folders", member=where)
    if any(len(part) > limits.name_bytes for part in parts):
        raise Refused(f"a component longer than {limits.name_bytes} bytes", member=where)
    return os.fsdecode(b"/".join(parts))
