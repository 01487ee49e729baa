"""Who is at the other end of a connection, as the kernel says: SO_PEERCRED and SO_PEERGROUPS.

The identity is read once, in `connection_made`, and put into the scope of every request of that connection.
Here too is what one user may take of the daemon before a request is even parsed: connections and patience.
"""

from __future__ import annotations

import asyncio
import functools
import pwd
import socket
import struct
from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobs.events import Owner

SO_PEERGROUPS = 59  # asm-generic/socket.h; not in the socket module
MOST_GROUP_BYTES = 1024  # most that socket.getsockopt can return: 256 groups
MOST_CONNECTIONS = 128  # of one user but root; each may hold a long poll
HEADERS_S = 10.0  # from the first byte of a request to the end of its headers


class UnknownPeer(OSError):
    """The kernel did not say who the peer is, or more than can be read."""


def read_peer(sock: socket.socket) -> Owner:
    """Raises UnknownPeer."""
    try:
        _, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUP_BYTES)
    except OSError as error:  # ERANGE: more groups than fit; fewer rights than the user has would be a surprise later
        raise UnknownPeer(error.errno, "peer's user and groups can't be read from the socket") from error
    return Owner(uid, gid, struct.unpack(f"{len(raw) // 4}I", raw), user_name(uid))


@functools.lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """For display; "" for a user that the host has no name for."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with `scope["state"]["peer"]`: an Owner."""

    connected: ClassVar[Counter[int]] = Counter()  # uid → open connections, of this process

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.peer: Owner | None = None
        self._impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        try:
            peer = read_peer(transport.get_extra_info("socket"))
        except UnknownPeer:
            self._refuse(
                b"403 Forbidden",
                b'{"code":"not-allowed","message":"who you are cannot be read from the socket",'
                b'"hint":"a user in more than 256 groups is not supported","problems":[]}',
            )
            return
        if peer.uid != 0 and self.connected[peer.uid] >= MOST_CONNECTIONS:
            self._refuse(
                b"503 Service Unavailable",
                b'{"code":"unavailable","message":"you have too many connections to the daemon",'
                b'"hint":"end some of your waiting jobs commands","problems":[]}',
            )
            return
        self.connected[peer.uid] += 1
        self.peer = peer
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            self.connected[self.peer.uid] -= 1
            if not self.connected[self.peer.uid]:
                del self.connected[self.peer.uid]
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:  # a refused connection is not read
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["peer"] = self.peer
        self._arm()

    def on_headers_complete(self) -> None:
        self._disarm()
        super().on_headers_complete()

    def _arm(self) -> None:
        self._disarm()
        self._impatience = self.loop.call_later(HEADERS_S, self.transport.abort)

    def _disarm(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _refuse(self, status: bytes, body: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
            % (status, len(body), body)
        )
        self.transport.close()
