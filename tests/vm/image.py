"""The guest's disk, kernel and initramfs in the cache: which one fits this work tree, made when it is missing.

An image is named by the hash of its recipe and appears whole or not at all: built in a folder of its own under a lock,
then renamed. The work tree is not part of it (tree.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vm import build, cache
from vm.places import INSIDE, ROOT, say


@dataclass(frozen=True)
class Image:
    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinux"

    @property
    def initramfs(self) -> Path:
        return self.folder / "initramfs"

    @property
    def disk(self) -> Path:
        return self.folder / "root.img"


@contextmanager
def in_use() -> Iterator[Image]:
    """The image of this work tree, built first where the cache lacks it; nobody removes it meanwhile."""
    name = f"image-{recipe_hash()}"
    with cache.locked("build"):
        place = cache.folder() / name
        if not place.is_dir():
            _build_into(place)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
    try:
        yield Image(place)
    finally:
        os.close(fd)


def _build_into(place: Path) -> None:
    say("building the image (once for each set of packages)")
    start = time.monotonic()
    cache.remove_unused("build-*")
    cache.remove_unused("image-*")
    work = Path(tempfile.mkdtemp(prefix="build-", dir=cache.folder()))
    try:
        build.build(work)
        (work / "image").rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"image built in {time.monotonic() - start:.0f} s: {place}")


def recipe_hash() -> str:
    """Of everything that the image depends on, so that no change of it is missed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts = [
        *build.packages(),
        (ROOT / "requirements.lock").read_text(),
        json.dumps([project["project"], project["build-system"]], sort_keys=True),
        build.release(),
        Path(build.__file__).read_text(),
        (INSIDE / "early").read_text(),
        (INSIDE / "customize").read_text(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
