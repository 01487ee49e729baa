"""One JSON file per attached execution: what a restart knows of the network. It goes first, the kernel second.

A file without a live execution is swept; an execution without a file has no network of ours. Of an earlier boot
nothing lives, so its files are stale whatever they say.
"""

from __future__ import annotations

import json
import os

from netbridge.attached import Attached, from_json, to_json
from netbridge.files import boot_id, read_text, replace_file

_SUFFIX = ".json"


class Ledger:
    """`<folder>/<execution_id>.json`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def write(self, attached: Attached) -> None:
        """Raises OSError."""
        replace_file(
            self._path(attached.execution_id),
            json.dumps({"boot_id": boot_id(), "attached": to_json(attached)}, indent=1),
            mode=0o600,
        )

    def remove(self, execution_id: str) -> None:
        """Safe to repeat."""
        try:
            os.unlink(self._path(execution_id))
        except FileNotFoundError:
            pass

    def read_all(self) -> tuple[list[Attached], list[str]]:
        """(what is of this boot, execution ids of stale files: of an earlier one, or cut short by the power)."""
        good, stale = [], []
        for name in sorted(os.listdir(self._folder)):
            if not name.endswith(_SUFFIX):
                continue
            try:
                good.append(self._read(name))
            except (OSError, ValueError, KeyError, TypeError):
                stale.append(name.removesuffix(_SUFFIX))
        return good, stale

    def _read(self, name: str) -> Attached:
        data = json.loads(read_text(os.path.join(self._folder, name)))
        if data["boot_id"] != boot_id():
            raise ValueError(name)
        return from_json(data["attached"])

    def _path(self, execution_id: str) -> str:
        return os.path.join(self._folder, execution_id + _SUFFIX)
