"""Byte streams of the jail: a window of a file, decompression with limits, a running digest. No policy."""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import IO, Protocol, cast

import zstandard

from runtime.images.limits import Budget, Refused

CHUNK = 1 << 20
_ZSTD_WINDOW = 128 << 20  # what `zstd --ultra --long=27` writes at most without asking the reader
_FORMATS = (  # (offset, magic, name): file(1) knows more
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"BZh", "bzip2"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"hsqs", "squashfs"),
    (0, b"\x7fELF", "a program"),
    (257, b"ustar", "tar"),
    (1024, b"\xe2\xe1\xf5\xe0", "erofs"),
    (1080, b"\x53\xef", "ext4"),
)


class Bytes(Protocol):
    """`read` gives up to `count` bytes and b"" only at the end."""

    def read(self, count: int) -> bytes: ...


class Window:
    """`size` bytes of a file from `start`, by pread: several windows of one descriptor do not disturb each other."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd, self._at, self._end = fd, start, start + size
        self.start = start

    @property
    def position(self) -> int:
        return self._at

    def read(self, count: int) -> bytes:
        data = os.pread(self._fd, min(count, self._end - self._at, CHUNK), self._at)
        self._at += len(data)
        return data

    def skip(self, count: int) -> None:
        if self._at + count > self._end:
            raise Refused("the archive ends in the middle of a file")
        self._at += count


class Pipe:
    """A descriptor that can only be read forward."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, count: int) -> bytes:
        return os.read(self._fd, min(count, CHUNK))


class Digest:
    """Passes bytes through and hashes what passed."""

    def __init__(self, source: Bytes) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()
        self.count = 0

    def read(self, count: int) -> bytes:
        data = self._source.read(count)
        self._sha256.update(data)
        self.count += len(data)
        return data

    def skip(self, count: int) -> None:
        while count:
            data = self.read(min(count, CHUNK))
            if not data:
                raise Refused("the archive ends in the middle of a file")
            count -= len(data)

    def drain(self) -> str:
        """Reads to the end; the digest as `sha256:…`."""
        while self.read(CHUNK):
            pass
        return f"sha256:{self._sha256.hexdigest()}"


def format_of(head: bytes) -> str:
    """Name of the format that a file begins with; "" when none is known. `head` should have 2 KiB."""
    for offset, magic, name in _FORMATS:
        if head[offset : offset + len(magic)] == magic:
            return name
    return ""


class Gunzip:
    """RFC 1952, one or more members, as pigz and eStargz write them. Only zeros may follow the last."""

    def __init__(self, source: Bytes, budget: Budget) -> None:
        self._source, self._budget = source, budget
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""  # compressed bytes not yet eaten
        self._ended = False
        self._in = self._out = 0

    def read(self, count: int) -> bytes:
        while not self._ended:
            if self._inflate.eof and not self._next_member():
                break
            if not self._pending:
                self._pending = self._take()
                if not self._pending:
                    raise Refused("the gzip stream is cut off")
            data = self._step(count)
            if data:
                return data
        return b""

    def _step(self, count: int) -> bytes:
        try:
            data = self._inflate.decompress(self._pending, count)
        except zlib.error as error:
            raise Refused(f"a damaged gzip stream: {error}") from None
        self._pending = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        self._out += len(data)
        self._budget.spend_bytes(len(data))
        self._budget.check_ratio(self._in, self._out)
        return data

    def _take(self) -> bytes:
        data = self._source.read(1 << 16)
        self._in += len(data)
        return data

    def _next_member(self) -> bool:
        self._pending = self._pending.lstrip(b"\0")
        while not self._pending and (more := self._take()):
            self._pending = more.lstrip(b"\0")
        if not self._pending:
            self._ended = True
            return False
        if not self._pending.startswith(b"\x1f"):
            raise Refused("data after the end of the gzip stream")
        self._inflate = zlib.decompressobj(wbits=31)
        return True


class Unzstd:
    """RFC 8878, one or more frames, windows up to 128 MiB."""

    def __init__(self, source: Bytes, budget: Budget) -> None:
        self._counted = _Counted(source)
        self._budget = budget
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        readable = cast(IO[bytes], self._counted)
        self._reader = decompressor.stream_reader(readable, read_size=1 << 16, read_across_frames=True)
        self._out = 0

    def read(self, count: int) -> bytes:
        try:
            data = self._reader.read(min(count, CHUNK))
        except zstandard.ZstdError as error:
            raise Refused(f"a damaged zstd stream: {error}") from None
        self._out += len(data)
        self._budget.spend_bytes(len(data))
        self._budget.check_ratio(self._counted.count, self._out)
        return data


class _Counted:
    def __init__(self, source: Bytes) -> None:
        self._source = source
        self.count = 0

    def read(self, count: int = CHUNK) -> bytes:
        data = self._source.read(count)
        self.count += len(data)
        return data


class Plain:
    """Uncompressed bytes, counted as output."""

    def __init__(self, source: Bytes, budget: Budget) -> None:
        self._source, self._budget = source, budget

    def read(self, count: int) -> bytes:
        data = self._source.read(count)
        self._budget.spend_bytes(len(data))
        return data


def decompressed(source: Bytes, form: str, budget: Budget) -> Bytes:
    """`form` is gzip, zstd or tar (plain)."""
    if form == "gzip":
        return Gunzip(source, budget)
    if form == "zstd":
        return Unzstd(source, budget)
    return Plain(source, budget)
