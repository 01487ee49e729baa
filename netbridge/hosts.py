"""Names of jobs for jobs of the same owner: one hosts file per owner, bound read-only into each of them.

No DNS server, nothing that dies with the daemon. A file is replaced by rename, so the *folder* is what gets bound.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from jobs.ids import ExecutionId
from netbridge.attached import Attached
from netbridge.files import read_text, replace_file

_LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)
_OURS = re.compile(r"localhost|ip6-.*|job-[0-9-]*", re.IGNORECASE | re.ASCII)
# systemd-resolved's list of the real servers, where /etc/resolv.conf only names its stub on 127.0.0.53:
RESOLV_CONFS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def render(attached: Iterable[Attached]) -> str:
    """The hosts file of one owner. Of several jobs with one name the oldest comes first, and so answers."""
    entries = sorted(_entry(each.execution_id, each.address, each.job_name) for each in attached)
    return _LOCAL + "".join(line for _, line in entries)


def resolv_conf(texts: Sequence[str]) -> str:
    """The first of the host's files that names a server which a job can reach; loopback servers are left out."""
    for text in texts:
        lines = [line for line in map(str.strip, text.splitlines()) if line and line[0] not in "#;"]
        if any(_server(line) for line in lines):
            kept = [line for line in lines if not line.startswith("nameserver") or _server(line)]
            return "\n".join(kept) + "\n"
    return "# the host names no server outside of itself\n"


def servers(resolv: str) -> list[str]:
    """IPv4 name servers of a resolv.conf, in order."""
    found = [_server(line) for line in resolv.splitlines()]
    return [server for server in found if server and "." in server]


def host_resolv_conf() -> str:
    """What jobs are told, from this host's files."""
    texts = []
    for path in RESOLV_CONFS:
        try:
            texts.append(read_text(path))
        except (OSError, UnicodeDecodeError):
            continue
    return resolv_conf(texts)


class HostsFiles:
    """`<folder>/<uid>/hosts`, readable by the jobs they are bound into; the folder's parent is the daemon's own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._given: set[int] = set()  # folders that a launch may be about to bind: they stay

    def folder_of(self, owner_uid: int) -> str:
        """Exists from now on, with a hosts file in it. Raises OSError."""
        self._given.add(owner_uid)
        folder = os.path.join(self._folder, str(owner_uid))
        if not os.path.exists(os.path.join(folder, "hosts")):
            self.write(owner_uid, ())
        return folder

    def write(self, owner_uid: int, attached: Iterable[Attached]) -> None:
        """Raises OSError."""
        folder = os.path.join(self._folder, str(owner_uid))
        os.makedirs(folder, mode=0o755, exist_ok=True)
        os.chmod(folder, 0o755)  # noqa: S103 (jobs of any id read it; the parent keeps everybody else out)
        replace_file(os.path.join(folder, "hosts"), render(attached), mode=0o644)

    def remove_others(self, owner_uids: Iterable[int]) -> None:
        """Drops the folders of owners without a job, which an earlier daemon left."""
        keep = {str(uid) for uid in (*owner_uids, *self._given)}
        for name in os.listdir(self._folder) if os.path.isdir(self._folder) else ():
            if name not in keep:
                shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)

    def remove_all(self) -> None:
        """Safe to repeat."""
        shutil.rmtree(self._folder, ignore_errors=True)


@lru_cache(maxsize=4096)  # one owner's file is written at each of their attaches, with all of their jobs
def _entry(execution_id: str, address: str, job_name: str) -> tuple[ExecutionId, str]:
    execution = ExecutionId.parse(execution_id)
    return execution, f"{address}\t{' '.join(_names(execution, job_name))}\n"


def _names(execution: ExecutionId, job_name: str) -> list[str]:
    task = f"job-{execution.job}-{execution.index}"
    names = [f"job-{execution.job}", task] if execution.index == 0 else [task]
    if _LABEL.fullmatch(job_name) and not _OURS.fullmatch(job_name):
        names.insert(0, job_name)
    return names


def _server(line: str) -> str:
    """The address of a `nameserver` line that a job can reach, or ""."""
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return ""
    try:
        return "" if ip_address(words[1].partition("%")[0]).is_loopback else words[1]
    except ValueError:
        return ""
