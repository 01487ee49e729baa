"""Nothing that is mounted in a job or in an image's jail shows on the host, where systemd makes every mount shared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from containerlab import Lab

from runtime import syscalls as sc
from runtime.plan import BoundMount

pytestmark = pytest.mark.needs("root", "userns", "netns", "timens", "overlay", "tool.catatonit")
MS_SHARED = 1 << 20  # linux/mount.h


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A filesystem that is mounted as systemd mounts all of them, with two folders in it."""
    sc.mount("jobs-test", str(tmp_path), "tmpfs", 0, "mode=755")
    sc.mount("", str(tmp_path), "", MS_SHARED)
    (tmp_path / "outer/inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("seen\n")
    yield tmp_path
    sc.umount2(str(tmp_path), sc.MNT_DETACH)  # with all that is mounted below


def mounts_below(folder: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(str(folder))]


def shared_mounts(mountinfo: list[str]) -> list[str]:
    return [line for line in mountinfo if any(word.startswith("shared:") for word in line.split(" - ")[0].split())]


def test_a_mount_below_another_one_stays_in_the_job(lab: Lab, shared: Path) -> None:
    outer = os.open(shared / "outer", os.O_PATH)
    other = os.open(shared / "other", os.O_PATH)
    before = mounts_below(shared)
    both = (BoundMount(2, "/data", True), BoundMount(3, "/data/inner", True))
    lines = lab.run("sh", "-c", "cat /data/inner/file /proc/self/mountinfo", extra=(outer, other), mounts=both).lines
    os.close(outer)
    os.close(other)
    assert lines[0] == "seen"
    assert [line.split()[4] for line in lines[1:] if " /data" in line] == ["/data", "/data/inner"]
    assert shared_mounts(lines[1:]) == []
    assert mounts_below(shared) == before


def test_a_copy_of_a_shared_mount_is_not_its_peer(shared: Path) -> None:
    tree = sc.open_tree(sc.AT_FDCWD, str(shared))
    place = shared / "other"
    sc.mount("jobs-test", str(place), "tmpfs", 0, "")  # a private one to attach the copy to
    sc.mount("", str(place), "", sc.MS_PRIVATE)
    (place / "copy").mkdir()
    sc.move_mount(tree, sc.AT_FDCWD, str(place / "copy"))
    os.close(tree)
    sc.mount("jobs-test", str(place / "copy/outer"), "tmpfs", 0, "")
    assert str(shared / "outer") not in mounts_below(shared)
