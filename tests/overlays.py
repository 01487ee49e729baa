"""A detached overlay of attached layers and a pooled upper, made as runtime/detach.py does it on this kernel."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime import syscalls as sc
from runtime.images.uppers import Upper


def detached_overlay(stage: Path, lower: Sequence[str], upper: Upper, attributes: int = 0) -> int:
    """*lower*: names below *stage*, the top layer first."""
    with _path_of(upper, stage) as above:
        writable = {"upperdir": f"{above}/upper", "workdir": f"{above}/work"}
        if sc.linux() >= (6, 7):
            return _by_fsopen([str(stage / name) for name in lower], writable, attributes)
        return _by_mount(stage, lower, writable)


@contextlib.contextmanager
def _path_of(upper: Upper, stage: Path) -> Iterator[str]:
    """Overlayfs takes a detached mount since 6.15; before, it is attached for the moment."""
    if sc.linux() >= (6, 15):
        yield upper.path
        return
    place = stage / "attached"
    place.mkdir(exist_ok=True)
    sc.move_mount(upper.fd, sc.AT_FDCWD, str(place))
    yield str(place)
    sc.umount2(str(place), sc.MNT_DETACH)


def _by_fsopen(lower: Sequence[str], writable: dict[str, str], attributes: int) -> int:
    fs = sc.fsopen("overlay")
    try:
        for layer in lower:
            sc.fsconfig_set(fs, "lowerdir+", layer)
        for key, value in writable.items():
            sc.fsconfig_set(fs, key, value)
        sc.fsconfig_create(fs)
        return sc.fsmount(fs, attributes)
    finally:
        os.close(fs)


def _by_mount(stage: Path, lower: Sequence[str], writable: dict[str, str]) -> int:
    """All options are one page: hence names relative to *stage*."""
    place = stage / "merged"
    place.mkdir(exist_ok=True)
    data = ",".join([f"lowerdir={':'.join(lower)}", *(f"{key}={value}" for key, value in writable.items())])
    with contextlib.chdir(stage):
        sc.mount("overlay", str(place), "overlay", sc.MS_NOSUID | sc.MS_NODEV, data)
    tree = sc.open_tree(sc.AT_FDCWD, str(place))
    sc.umount2(str(place), sc.MNT_DETACH)
    return tree
