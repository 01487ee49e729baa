"""Lets the host forward for as long as any instance on it needs that, and gives the host its own settings back then.

The note of the originals belongs to the network namespace, not to one instance: whoever starts first writes it,
whoever stops last acts on it. Who else is there is seen by the bridges: a crashed instance counts until it is stopped.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from anyio import sleep

from jobs.errors import StepFailed
from netbridge import sysctl
from netbridge.names import NetworkSettings, is_gateway_mac, is_link_name, is_our_mac
from netbridge.netlink import Netlink

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, Linux 5.14: a number for a namespace that is never used again
_RETRY_S = 0.005


class Forwarding:
    """ip_forward and what it drags along."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._note = os.path.join(settings.host_dir, f"originals-{_namespace()}")
        self._lock = self._note + ".lock"

    @property
    def fenced(self) -> tuple[str, ...]:
        """Links of a host that did not forward: between them it still must not."""
        return sysctl.Originals(self._note).fenced

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One instance of this host at a time, from the note to the bridge that stands for it. Raises StepFailed."""
        while (fd := self._try_lock()) is None:  # noqa: ASYNC110 (another process's turn: no event of ours)
            await sleep(_RETRY_S)
        try:
            yield
        finally:
            os.close(fd)

    async def note(self, netlink: Netlink) -> None:
        """In turn, before anything is changed. On a host that forwards already, nothing will be."""
        if sysctl.read(sysctl.FORWARD) == "1":
            return
        links = [each for each in await netlink.links() if each.name != "lo" and not is_our_mac(each.mac)]
        fenced = [each.name for each in links if is_link_name(each.name)]
        try:
            sysctl.Originals(self._note).remember(sysctl.touched_by_forwarding(), fenced)
        except OSError as error:
            raise StepFailed("net:note", error.errno or 0, self._note) from error

    def begin(self) -> None:
        """The originals are noted and the tables stand by now: they fence the other links. Raises StepFailed."""
        if sysctl.read(sysctl.FORWARD) != "1":
            sysctl.write(sysctl.FORWARD, "1")

    async def end(self, netlink: Netlink) -> None:
        """In turn, when our bridge is gone. Other instances keep what they need. Raises StepFailed."""
        others = [each for each in await netlink.links() if each.kind == "bridge" and is_gateway_mac(each.mac)]
        if not others:
            sysctl.Originals(self._note).restore()
            os.unlink(self._lock)
            with suppress(OSError):  # another namespace's files are in there
                os.rmdir(self._settings.host_dir)

    def _try_lock(self) -> int | None:
        """Not waiting: the daemon's loop must not stand still. A file that was removed meanwhile locks nobody out."""
        try:
            os.makedirs(self._settings.host_dir, mode=0o755, exist_ok=True)
            fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None  # the folder was removed between the two
        except OSError as error:
            raise StepFailed("net:turn", error.errno or 0, error.filename or self._lock) from error
        if _locked(fd) and os.fstat(fd).st_nlink:
            return fd
        os.close(fd)
        return None


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _namespace() -> str:
    """A name for the network namespace that we are in."""
    try:
        with socket.socket(socket.AF_UNIX) as any_socket:
            return any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8).hex()
    except OSError:
        return str(os.stat("/proc/thread-self/ns/net").st_ino)
