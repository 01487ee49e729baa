"""One output stream of a job as a sparse file: a hole is punched behind the allowed size, offsets never move.

A reader may therefore resume at any offset. A full disk drops output and counts it; it never blocks the job.
Launcher side.
"""

from __future__ import annotations

import errno
import os

from runtime import syscalls

CHUNK_BYTES = 1 << 20
_BLOCK = 4096
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class LogFile:
    """`written_bytes` is the offset where the next byte goes."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        self.fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self.written_bytes = 0
        self.dropped_bytes = 0
        self._limit = max(limit_bytes, _BLOCK)
        self._hole_end = 0
        self._slack = max(self._limit // 8, _BLOCK)  # punched in steps of this size: a call per chunk would be wasteful

    def take(self, pipe: int) -> bool:
        """Moves what is in the pipe; False at end of file. The pipe is non-blocking or known to be readable."""
        try:
            moved = os.splice(pipe, self.fd, CHUNK_BYTES, offset_dst=self.written_bytes, flags=os.SPLICE_F_MOVE)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in _FULL:
                raise
            moved = len(os.read(pipe, CHUNK_BYTES))
            self.dropped_bytes += moved
            return moved > 0
        self.written_bytes += moved
        if self.written_bytes - self._hole_end > self._limit + self._slack:
            self._punch()
        return moved > 0

    def _punch(self) -> None:
        end = (self.written_bytes - self._limit) // _BLOCK * _BLOCK
        try:
            flags = syscalls.FALLOC_FL_PUNCH_HOLE | syscalls.FALLOC_FL_KEEP_SIZE
            syscalls.fallocate(self.fd, flags, self._hole_end, end - self._hole_end)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # a filesystem without holes keeps everything
                raise
        self._hole_end = end
