"""One end of a SOCK_SEQPACKET socket that carries messages and descriptors. Launcher side; also used by the client.

A datagram is whole or not at all, so there is no framing and no half message.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence

from runtime import messages

MOST_BYTES = 192 << 10  # below the default SO_SNDBUF of 212,992 bytes, beyond which sendmsg answers EMSGSIZE
_SMALL = 8 << 10  # between parent and child; a clone pays for every page that it touches
MOST_FDS = 253  # SCM_MAX_FD, include/net/scm.h


class Channel:
    """Owns its socket. Blocking unless made otherwise."""

    def __init__(self, sock: socket.socket, most_bytes: int = MOST_BYTES) -> None:
        self.sock, self._most_bytes = sock, most_bytes

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one, _SMALL), cls(other, _SMALL)

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: messages.Message, fds: Sequence[int] = ()) -> None:
        """Raises OSError: EPIPE when the other end is gone, EAGAIN on a full non-blocking socket."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([messages.encode(message)], rights, socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[messages.Message | None, list[int]]:
        """(None, []) at end of file. The caller owns the descriptors. Raises Malformed, OSError."""
        data, ancillary, flags, _ = self.sock.recvmsg(
            self._most_bytes, socket.CMSG_SPACE(MOST_FDS * 4), socket.MSG_CMSG_CLOEXEC
        )
        fds = _fds(ancillary)
        if not data:
            close_all(fds)
            return None, []
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise messages.Malformed("message too long")
            return messages.decode(data), fds
        except messages.Malformed:
            close_all(fds)
            raise

    def close(self) -> None:
        self.sock.close()


def _fds(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
