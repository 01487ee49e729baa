"""The second disk of a guest: a tar file with the work tree for /opt/jobs, and what to do in it for /opt/jobs-vm.

One picture of the tree, taken at the start: edits on the host do not reach a guest that runs. Bytecode goes along, so
that the guest, with the same Python, does not compile everything anew.
"""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from vm.places import INSIDE, ROOT

LEFT_OUT = {".git", ".venv", "out", ".hypothesis"}


def write_disk(target: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Disks come in sectors of 512 bytes; tar files do too."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(ROOT, "opt/jobs", filter=_wanted)
        for script in sorted(INSIDE.iterdir()):
            _add_text(archive, f"opt/jobs-vm/{script.name}", script.read_text())
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
        _add_text(archive, "opt/jobs-vm/environment", exports)
        _add_text(archive, "opt/jobs-vm/command", f"cd /opt/jobs || exit 126\nexec {shlex.join(command)}\n")


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = member.name.split("/")[2:]
    if parts and (parts[0] in LEFT_OUT or parts[0].endswith((".egg-info", "_cache"))):
        return None
    if parts and "__pycache__" in parts and parts[-1] != "__pycache__" and ".cpython-311" not in parts[-1]:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644  # as git checks out
    member.mtime = int(member.mtime)
    return member


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o755
    archive.addfile(member, io.BytesIO(data))
