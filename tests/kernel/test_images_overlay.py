"""Imported layers under a real overlay, idmapped as the monitor does it: whiteouts hide, ids fit, programs run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from builders_images import (
    OciLayout,
    a_dir,
    a_file,
    a_store,
    a_symlink,
    a_tar,
    docker_save,
    import_path,
    make_userns,
    run_helper,
)
from overlays import detached_overlay

from runtime import syscalls as sc
from runtime.images.uppers import Upper, Uppers
from runtime.plan import ImageRoot

BLOCK = 1_900_000_000
BUSYBOX = Path("/bin/busybox")
ATTRIBUTES = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV


@contextmanager
def merged(root: ImageRoot, upper: Upper, userns: int, stage: Path) -> Iterator[int]:
    """A descriptor of the overlay's root. Layers are attached below `stage` for as long."""
    attached = []
    try:
        for number, layer in enumerate(root.lower):
            where = stage / str(number)
            where.mkdir()
            tree = sc.open_tree(sc.AT_FDCWD, layer)
            sc.mount_setattr(tree, "", sc.MOUNT_ATTR_RDONLY, userns_fd=userns)
            sc.move_mount(tree, sc.AT_FDCWD, str(where))
            os.close(tree)
            attached.append(str(where))
        mount = detached_overlay(stage, [Path(where).name for where in attached], upper, ATTRIBUTES)
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount)
        os.close(mount)
        yield top
        os.close(top)
    finally:
        for where in attached:
            sc.umount2(where, sc.MNT_DETACH)


def on_image(tmp_path: Path, archive: bytes, look: Callable[[int], None]) -> None:
    """Imports, mounts with an upper, and looks at the merged root."""

    async def main() -> None:
        store = a_store(tmp_path / "state")
        uppers = Uppers(str(tmp_path / "state"), run_helper, 16 << 20, 0)
        await store.start()
        await uppers.start()
        source = tmp_path / "archive"
        source.write_bytes(archive)
        await import_path(store, "x", source)
        upper = await uppers.acquire(16 << 20, owner=(BLOCK, BLOCK))
        line = f"0 {BLOCK} 65536\n"
        userns = await make_userns(line, line)
        stage = tmp_path / "stage"
        stage.mkdir()
        try:
            with merged(store.hold("x"), upper, userns, stage) as root:
                look(root)
        finally:
            os.close(userns)
            await uppers.release(upper)
            await uppers.stop()

    (tmp_path / "state").mkdir(mode=0o700)
    work: Callable[[], Awaitable[None]] = main
    anyio.run(work)


def names(root: int, path: str) -> list[str]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


BASE = a_tar(
    a_file("etc/kept"), a_file("etc/gone"), a_file("opaque/below"), a_file("folder/sub/below"),
    a_file("remade/below"), a_file("file"), a_symlink("link", "etc/kept"),
)  # fmt: skip
TOP = a_tar(
    a_file("etc/.wh.gone"), a_file("opaque/.wh..wh..opq"), a_file("opaque/above"), a_file(".wh.folder"),
    a_file(".wh.remade"), a_dir("remade/"), a_file("remade/above"), a_file(".wh.file"), a_file(".wh.link"),
)  # fmt: skip


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_whiteouts_hide_and_opaque_folders_cover(tmp_path: Path, form: str) -> None:
    def look(root: int) -> None:
        assert names(root, ".") == ["etc", "opaque", "remade"]
        assert names(root, "etc") == ["kept"]
        assert names(root, "opaque") == ["above"]
        assert names(root, "remade") == ["above"]

    on_image(tmp_path, docker_save([BASE, TOP]) if form == "docker" else OciLayout([BASE, TOP]).tar(), look)


def test_control_without_the_marks_the_lower_files_show(tmp_path: Path) -> None:
    bare = a_tar(a_file("opaque/above"), a_dir("remade/"), a_file("remade/above"))

    def look(root: int) -> None:
        assert "folder" in names(root, ".") and names(root, "etc") == ["gone", "kept"]
        assert names(root, "opaque") == ["above", "below"] == names(root, "remade")

    on_image(tmp_path, docker_save([BASE, bare]), look)


def test_a_file_that_comes_back_in_a_third_layer(tmp_path: Path) -> None:
    def look(root: int) -> None:
        assert names(root, "etc") == ["gone", "kept"]
        with open(os.open("etc/gone", os.O_RDONLY, dir_fd=root)) as file:
            assert file.read() == "again"

    on_image(tmp_path, docker_save([BASE, TOP, a_tar(a_file("etc/gone", b"again"))]), look)


def test_ids_are_those_of_the_block_and_writing_copies_up(tmp_path: Path) -> None:
    def look(root: int) -> None:
        found = os.stat("f", dir_fd=root)
        assert (found.st_uid, found.st_gid) == (BLOCK + 12, BLOCK + 65535)
        os.close(os.open("f", os.O_WRONLY | os.O_APPEND, dir_fd=root))  # copied up
        assert os.stat("f", dir_fd=root).st_uid == BLOCK + 12
        assert os.fstat(root).st_uid == BLOCK

    on_image(tmp_path, a_tar(a_file("f", b"x", uid=12, gid=65535)), look)


def test_as_many_layers_as_allowed(tmp_path: Path) -> None:
    layers = [a_tar(a_file(f"f{number}"), a_file("same", str(number).encode())) for number in range(127)]

    def look(root: int) -> None:
        assert len(names(root, ".")) == 128
        with open(os.open("same", os.O_RDONLY, dir_fd=root)) as file:
            assert file.read() == "126"

    on_image(tmp_path, docker_save(layers), look)


@pytest.mark.needs("tool.busybox")
def test_a_program_of_the_image_runs(tmp_path: Path) -> None:
    data = BUSYBOX.read_bytes()
    image = a_tar(a_file("bin/busybox", data, mode=0o755), a_symlink("bin/sh", "busybox"), a_dir("tmp/", mode=0o1777))

    def look(root: int) -> None:
        def enter() -> None:
            os.fchdir(root)
            os.chroot(".")
            os.setgroups([])
            os.setresgid(BLOCK, BLOCK, BLOCK)
            os.setresuid(BLOCK, BLOCK, BLOCK)

        done = subprocess.run(
            ["/bin/sh", "-c", "echo $(busybox id -u) > /made; busybox cat /made"],
            preexec_fn=enter,
            env={"PATH": "/bin"},
            capture_output=True,
            check=True,
        )
        assert done.stdout == f"{BLOCK}\n".encode()

    on_image(tmp_path, docker_save([image]), look)
