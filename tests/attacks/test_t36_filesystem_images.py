"""T36: filesystem images. No kernel driver of this host ever parses bytes that a user chose."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from builders_images import try_import

from jobs.errors import BadImage
from runtime.images import loopfs

SIZE = 4 << 20


@pytest.fixture
def crafted(tmp_path: Path) -> Path:
    """A valid ext4 filesystem here; an attacker's would not be valid."""
    (tmp_path / "state").mkdir()
    image = tmp_path / "disk.img"
    loopfs.make_sparse(str(image), SIZE)
    subprocess.run(["mkfs.ext4", *loopfs.MKFS, str(image)], check=True)
    return image


def test_t36_a_filesystem_image_is_refused_by_name(crafted: Path) -> None:
    with pytest.raises(BadImage, match="this is ext4"):
        try_import(crafted.parent / "state", crafted)


@pytest.mark.parametrize(("magic", "offset", "name"), [(b"hsqs", 0, "squashfs"), (b"\xe2\xe1\xf5\xe0", 1024, "erofs")])
def test_t36_others_too(crafted: Path, magic: bytes, offset: int, name: str) -> None:
    crafted.write_bytes(bytes(offset) + magic + bytes(4096))
    with pytest.raises(BadImage, match=f"this is {name}"):
        try_import(crafted.parent / "state", crafted)


def test_t36_control_the_kernel_would_mount_it(crafted: Path) -> None:
    file = os.open(crafted, os.O_RDWR)
    device, path = loopfs.loop_attach(file)
    os.close(file)
    try:
        root = loopfs.mount_detached(path)
        os.stat("lost+found", dir_fd=root)
        os.close(root)
    finally:
        os.close(device)
