"""Makes a capture of a tree of /sys and /proc files, as hwloc and lscpu keep them for their own tests.

    python tests/data/sysfs/from_tree.py ROOT [PATH=TEXT …] > tests/data/sysfs/NAME.json

What is told with PATH=TEXT was not in the tree: README.md beside this file says why, and where it is from.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from scheduler.capture import Captured, capture
from scheduler.processors import ListDir


def names(listdir: ListDir, folder: str) -> list[str]:
    try:
        return list(listdir(folder))
    except OSError:
        return []


def main(root: str, added: list[str]) -> None:
    extra = Captured({name: f"{text}\n" for name, _, text in (item.partition("=") for item in added)})

    def read(path: str) -> str:
        return extra.files[path] if path in extra.files else Path(root + path).read_text(errors="replace")

    def listdir(folder: str) -> list[str]:
        return sorted({*names(os.listdir, root + folder), *names(extra.listdir, folder)})

    json.dump(capture(read, listdir), sys.stdout, indent=1, ensure_ascii=False)
    print()


main(sys.argv[1], sys.argv[2:])
