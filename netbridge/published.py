"""Host ports that jobs publish. Each is held by a bound socket that nobody listens on.

nftables would lead a port to a job even where a program of the host listens on it already; the bound socket makes
such a clash an error for whoever comes second, the job or the program.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from jobs.errors import StepFailed
from jobs.spec import Publish
from netbridge.sysctl import read

_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_UNPRIVILEGED = "net/ipv4/ip_unprivileged_port_start"
_DEFAULT_UNPRIVILEGED = 1024


class PublishedPorts:
    """Who holds which port of this host."""

    def __init__(self) -> None:
        self._held: dict[str, list[socket.socket]] = {}

    def hold(self, execution_id: str, owner_uid: int, publish: Iterable[Publish]) -> None:
        """All or none; safe to repeat. Raises StepFailed: EADDRINUSE for a port in use, EACCES for one of root's."""
        if execution_id in self._held:
            return
        held = self._held[execution_id] = []
        try:
            for each in publish:
                _check_privilege(owner_uid, each)
                held.append(_bound(each))
        except BaseException:
            self.release(execution_id)
            raise

    def release(self, execution_id: str) -> None:
        """Safe to repeat."""
        for each in self._held.pop(execution_id, ()):
            each.close()

    def release_all(self) -> None:
        for execution_id in list(self._held):
            self.release(execution_id)


def _check_privilege(owner_uid: int, publish: Publish) -> None:
    lowest = int(read(_UNPRIVILEGED) or _DEFAULT_UNPRIVILEGED)
    if owner_uid != 0 and publish.host_port < lowest:
        raise StepFailed(
            "net:publish", errno.EACCES, _name(publish), hint=f"ports below {lowest} are for root; choose a higher one"
        )


def _bound(publish: Publish) -> socket.socket:
    holder = socket.socket(socket.AF_INET, _TYPES[publish.protocol])
    try:
        holder.bind(("0.0.0.0", publish.host_port))
    except OSError as error:
        holder.close()
        hint = "another job or a program of this host has it; `ss -lntup` shows which"
        raise StepFailed("net:publish", error.errno or 0, _name(publish), hint=hint) from error
    return holder


def _name(publish: Publish) -> str:
    return f"host port {publish.host_port}/{publish.protocol}"
