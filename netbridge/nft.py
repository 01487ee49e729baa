"""Runs nftables transactions through libnftables: one call, one transaction, all or nothing. The only user of it.

Debian ships the binding as a plain ctypes module for the system's Python; it is loaded by path, so that a virtual
environment can use it (docs/design/nftables.md). No process is started.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

from anyio import CapacityLimiter, to_thread

from jobs.errors import StepFailed, Unsupported

_PLACES = ("/usr/lib/python3/dist-packages/nftables/__init__.py",)
# Messages of libnftables end in strerror(3) of what the kernel answered.
_ERRNOS = {
    "No such file or directory": errno.ENOENT,
    "File exists": errno.EEXIST,
    "Operation not permitted": errno.EPERM,
    "Operation not supported": errno.EOPNOTSUPP,
    "Device or resource busy": errno.EBUSY,
    "Cannot allocate memory": errno.ENOMEM,
    "No buffer space available": errno.ENOBUFS,
}


class Nft:
    """One libnftables context, which belongs to one thread at a time: hence the limiter."""

    def __init__(self) -> None:
        self._context: Any = _module().Nftables()
        self._one_at_a_time = CapacityLimiter(1)

    async def run(self, step: str, commands: str) -> None:
        """Raises StepFailed(step, …) and changes nothing when the kernel refuses any of the commands.

        In a thread: the kernel's commit lock may be held for long by somebody else's transaction.
        """
        await to_thread.run_sync(self._run, step, commands, limiter=self._one_at_a_time)

    async def list_chains(self) -> list[dict[str, Any]]:
        """Every chain of the namespace, as libnftables-json(5) has it. Raises StepFailed."""
        return await to_thread.run_sync(self._list_chains, limiter=self._one_at_a_time)

    def _list_chains(self) -> list[dict[str, Any]]:
        self._context.set_json_output(True)
        try:
            status, output, error = self._context.cmd("list chains")
        finally:
            self._context.set_json_output(False)
        if status != 0:
            raise _failure("net:list", error)
        found: list[dict[str, Any]] = json.loads(output)["nftables"]
        return found

    def _run(self, step: str, commands: str) -> None:
        status, _, error = self._context.cmd(commands)
        if status != 0:
            raise _failure(step, error)


def missing() -> str:
    """Why libnftables can't be used from here; "": it can."""
    try:
        _module()
    except Unsupported as error:
        return error.message
    return ""


def _failure(step: str, error: str) -> StepFailed:
    """`Error: Could not process rule: File exists` and the command that it points at."""
    lines = error.strip().splitlines()
    reason = lines[0].rpartition(": ")[2] if lines else ""
    command = lines[1].strip()[:200] if len(lines) > 1 else ""
    return StepFailed(step, _ERRNOS.get(reason, errno.EINVAL), f"nftables: {command}", hint=lines[0] if lines else "")


def _module() -> ModuleType:
    if "nftables" in sys.modules:
        return sys.modules["nftables"]
    for place in (None, *_PLACES):
        spec = (
            importlib.util.spec_from_file_location("nftables", place) if place else importlib.util.find_spec("nftables")
        )
        try:
            if spec is None or spec.loader is None:
                continue
            module = importlib.util.module_from_spec(spec)
            sys.modules["nftables"] = module
            spec.loader.exec_module(module)
            return module
        except (ImportError, OSError):
            sys.modules.pop("nftables", None)
    raise Unsupported("libnftables for Python is missing", hint="apt-get install python3-nftables")
