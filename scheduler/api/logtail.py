"""Reads a job's log file: sparse at its start where old output was dropped, growing at its end.

Offsets never move. Only a regular file is read, never through a symbolic link (docs/design/attacks.md T16).
"""

from __future__ import annotations

import errno
import os
import stat

CHUNK_BYTES = 256 << 10
MOST_TAIL_BYTES = 16 << 20  # looked through for the last lines


class LogFile:
    """An open log; every method may touch the disk, so call it in a thread."""

    def __init__(self, fd: int) -> None:
        self._file = open(fd, "rb", buffering=0)  # noqa: SIM115 - closes when nobody refers to it any more
        self.fd = fd

    @classmethod
    def open(cls, path: str) -> LogFile | None:
        """None when there is no such file (yet). Raises OSError for anything but a regular file."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", path)
        return cls(fd)

    def close(self) -> None:
        self._file.close()

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def kept_from(self, offset: int) -> int:
        """The first offset from there on whose output is still kept; the end where nothing is."""
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: no data from there on (lseek(2))
                raise
            return max(offset, self.size())

    def read_kept(self, offset: int) -> bytes | None:
        """b"" at the end of the file; None when what is there was dropped, if only while it was being read."""
        data = os.pread(self.fd, CHUNK_BYTES, offset)
        return data if not data or self.kept_from(offset) == offset else None

    def last_lines(self, count: int) -> int:
        """Where the last `count` lines begin; looks back over at most MOST_TAIL_BYTES of kept output."""
        end = self.size()
        floor = self.kept_from(max(0, end - MOST_TAIL_BYTES))
        at, wanted = end, count
        while at > floor:
            size = min(CHUNK_BYTES, at - floor)
            block = os.pread(self.fd, size, at - size)
            if at == end and block.endswith(b"\n"):
                wanted += 1  # the newline that ends the last line begins none
            found = block.count(b"\n")
            if found >= wanted:
                return at - size + _nth_from_end(block, wanted) + 1
            wanted -= found
            at -= size
        return floor


def _nth_from_end(block: bytes, nth: int) -> int:
    position = len(block)
    for _ in range(nth):
        position = block.rindex(b"\n", 0, position)
    return position
