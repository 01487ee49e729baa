"""Kernel settings that we change for a while, and their true originals, kept in a file so that a crash loses none.

The file is written before the kernel is touched and removed after the last value is back. An entry of another boot
is void: that kernel is gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping

from jobs.errors import StepFailed
from netbridge.files import boot_id, read_text, replace_file

_ROOT = "/proc/sys/"
FORWARD = "net/ipv4/ip_forward"


class Originals:
    """What the host's values were before us. `fenced`: the links of a host that did not forward (see policy)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.values: dict[str, str] = {}
        self.fenced: tuple[str, ...] = ()
        self._load()

    def remember(self, names: Iterable[str], fenced: Iterable[str]) -> None:
        """Notes the values of now, once: after a crash the first note is the true one."""
        if self.values:
            return
        self.values = {name: value for name in names if (value := read(name)) is not None}
        self.fenced = tuple(fenced)
        note = {"boot_id": boot_id(), "values": self.values, "fenced": self.fenced}
        replace_file(self._path, json.dumps(note, indent=1), mode=0o600)

    def restore(self) -> None:
        """Writes every original back that differs, in the order noted, then forgets them."""
        for name, value in self.values.items():
            if read(name) not in (value, None):
                write(name, value)
        self.values, self.fenced = {}, ()
        if os.path.exists(self._path):
            os.unlink(self._path)

    def _load(self) -> None:
        try:
            note = json.loads(read_text(self._path))
            if note["boot_id"] == boot_id():
                self.values, self.fenced = dict(note["values"]), tuple(note["fenced"])
        except (OSError, ValueError, KeyError, TypeError):
            return  # no note: nothing was changed yet


def read(name: str) -> str | None:
    """`net/ipv4/ip_forward` → its value; None when there is no such setting."""
    try:
        return read_text(_ROOT + name).strip()
    except OSError:
        return None


def write(name: str, value: str) -> None:
    """Raises StepFailed("net:sysctl", errno, path)."""
    path = _ROOT + name
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise StepFailed("net:sysctl", error.errno or 0, path) from error


def write_all(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        write(name, value)


def touched_by_forwarding() -> list[str]:
    """Writing ip_forward sets the rest too (net/ipv4/devinet.c, inet_forward_change), so it is the first to go back."""
    base = "net/ipv4/conf"
    links = sorted(os.listdir(_ROOT + base))
    return [FORWARD, f"{base}/all/accept_redirects", *(f"{base}/{link}/forwarding" for link in links if link != "all")]
