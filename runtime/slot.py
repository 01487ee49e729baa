"""A slot: a user namespace and, if wanted, a network namespace owned by it, made ahead of a job. Launcher side.

A short-lived child makes them; the launcher, as the host's root, writes the id maps; the descriptors keep both alive.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from runtime import syscalls as sc
from runtime.channel import Channel
from runtime.messages import Done, Mapped, StepError, Unshared
from runtime.perform import StepFailure, failure

NETLINK_ROUTE = 0
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # netdevice(7)
_PING = "/proc/sys/net/ipv4/ping_group_range"
_LOW_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_NO_NESTING = "/proc/sys/user/max_user_namespaces"


def child(channel: Channel, network: bool) -> int:
    try:
        fds = _make(channel, network)
    except StepFailure as failed:
        channel.send(StepError(failed.step, failed.errno, failed.path))
        return 1
    channel.send(Done({"network": network}), fds)
    return 0


def _make(channel: Channel, network: bool) -> list[int]:
    step = "unshare"
    try:
        sc.unshare(sc.CLONE_NEWUSER | (sc.CLONE_NEWNET if network else 0))
        channel.send(Unshared())
        step = "id-map"
        if not isinstance(channel.receive()[0], Mapped):
            raise ConnectionResetError("the launcher hung up")
        step = "sysctl"
        # A job needs no namespaces of its own making, and most kernel holes of the last years began with one.
        _write(_NO_NESTING, b"0")
        fds = [os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)]
        if network:
            _write(_PING, b"0 65535")  # ping without a capability; numbers are gids inside
            _write(_LOW_PORTS, b"0")  # port 80 without a capability: all ports of this namespace are the job's
            _raise_loopback()
            fds.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            fds.append(
                socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_ROUTE).detach()
            )
        return fds
    except OSError as error:
        raise failure(step, error) from error


def _raise_loopback() -> None:
    """Also for jobs without any other link."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def write_maps(pid: int, uid_map: str, gid_map: str) -> None:
    """By the launcher. Each map is one write: user_namespaces(7). Raises OSError."""
    _write(f"/proc/{pid}/uid_map", uid_map.encode())
    _write(f"/proc/{pid}/gid_map", gid_map.encode())


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)
