"""Images and writable layers with the real launcher: imported by its helpers, run as jobs, limited."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from builders_images import ROOT_OWNER, OciLayout, a_dir, a_file, a_symlink, a_tar, import_path
from containerlab import Finished, Lab

from jobs.events import Owner
from jobs.spec import Image, JobSpec
from runtime.client import Launcher
from runtime.images.store import ImageStore
from runtime.images.uppers import Uppers
from runtime.plan import ImageRoot

BUSYBOX = Path("/bin/busybox")
SIZE = 16 << 20
pytestmark = pytest.mark.needs("tool.busybox", "tool.catatonit", "loop", "overlay")


def layers() -> list[bytes]:
    shell = a_file("bin/busybox", BUSYBOX.read_bytes(), mode=0o755)
    links = [a_symlink(f"bin/{name}", "busybox") for name in ("sh", "cat", "id", "dd", "ls", "stat", "mknod", "touch")]
    base = a_tar(shell, *links, a_file("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), a_file("etc/gone", b"below"))
    private = a_file("root/private", b"of the image's root\n", mode=0o600)
    return [base, a_tar(a_file("etc/.wh.gone"), a_dir("root/", mode=0o700), private, a_file("owned", b"x", uid=7))]


@asynccontextmanager
async def storage(tmp_path: Path, client: Launcher) -> AsyncIterator[tuple[ImageStore, Uppers]]:
    state = tmp_path / "images-state"
    state.mkdir(mode=0o700)
    store = ImageStore(str(state), client.helper, client.idmap_userns)
    uppers = Uppers(str(state), client.helper, SIZE, 1)
    await store.start()
    await uppers.start()
    try:
        yield store, uppers
    finally:
        await uppers.stop()


async def run_on(lab: Lab, client: Launcher, image: ImageRoot, uppers: Uppers, script: str, *fds: int) -> Finished:
    spec = JobSpec(name="lab", script=f"#!/bin/sh\n{script}\n", run_as="root", image=Image("x", SIZE))
    upper = await uppers.acquire(SIZE)  # the monitor makes `upper/` belong to the block
    try:
        async with lab.box(client, spec, (upper.fd, *fds), image=image, upper_fd=2) as box:
            await box.create()
            await box.go()
            return await box.ended()
    finally:
        await uppers.release(upper, discard=True)


def on_image(lab: Lab, tmp_path: Path, script: str) -> Finished:
    archive = tmp_path / "image.tar"
    archive.write_bytes(OciLayout(layers(), WorkingDir="/etc").tar())

    async def body(client: Launcher) -> Finished:
        async with storage(tmp_path, client) as (store, uppers):
            await import_path(store, "x", archive)
            return await run_on(lab, client, store.hold("x"), uppers, script)

    return lab.call(body)


def test_a_job_on_an_imported_image(lab: Lab, tmp_path: Path) -> None:
    done = on_image(lab, tmp_path, "pwd; id -u; ls; cat /root/private; stat -c %u:%g /owned; touch /new && ls -d /new")
    assert done.record.status == 0, done.stderr
    pwd, uid, *rest = done.lines
    assert (pwd, uid) == ("/etc", "0")
    assert "gone" not in rest and "passwd" in rest
    assert "of the image's root" in rest  # the job's root owns the image
    assert "7:0" in rest and rest[-1] == "/new"


def test_the_limit_of_the_writable_layer_bites_in_the_job(lab: Lab, tmp_path: Path) -> None:
    done = on_image(lab, tmp_path, "dd if=/dev/zero of=/big bs=65536 count=1000; ls -l /big >&2; exit 0")
    assert "No space left on device" in done.stderr


def test_no_device_and_no_set_id_in_the_job(lab: Lab, tmp_path: Path) -> None:
    done = on_image(lab, tmp_path, "mknod /mem c 1 1; mknod /disk b 7 0; exit 0")
    assert done.stderr.count("Operation not permitted") == 2


def test_a_folder_is_imported_by_the_launchers_helpers(lab: Lab, tmp_path: Path) -> None:
    """Two helpers and a pipe: neither may wait for the other's end."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/sh").write_bytes(BUSYBOX.read_bytes())
    (tree / "bin/sh").chmod(0o755)
    (tree / "big").write_bytes(os.urandom(4 << 20))
    for path in (tree, *tree.rglob("*")):
        os.chown(path, 1000, 1000)

    async def body(client: Launcher) -> Finished:
        async with storage(tmp_path, client) as (store, uppers):
            await import_path(store, "tree", tree, owner=Owner(1000, 1000))
            return await run_on(lab, client, store.hold("tree"), uppers, "echo /*; echo $$ > /bin/written; echo ok")

    parent = tmp_path
    while str(parent).startswith("/tmp/"):
        parent.chmod(0o711)
        parent = parent.parent
    done = lab.call(body)
    assert done.lines[-1] == "ok" and "/big" in done.stdout


# ── a folder in place: `dir:/path` ──────────────────────────────────────────────────────────────────────────────


def in_place(lab: Lab, tmp_path: Path, *, idmapped: bool) -> Finished:
    tree = tmp_path / "tree"
    for folder in ("bin", "etc"):
        (tree / folder).mkdir(parents=True)
    (tree / "bin/sh").write_bytes(BUSYBOX.read_bytes())
    (tree / "bin/sh").chmod(0o755)
    (tree / "etc/shadow").write_text("root's secret\n")
    (tree / "etc/shadow").chmod(0o600)
    (tree / "etc/hello").write_text("for everybody\n")

    async def body(client: Launcher) -> Finished:
        async with storage(tmp_path, client) as (store, uppers):
            fd = await client.open_as(ROOT_OWNER.uid, ROOT_OWNER.gid, (), str(tree), os.O_PATH | os.O_DIRECTORY)
            try:
                image = store.directory(3, str(tree))
                image = ImageRoot(image.kind, image.lower, idmapped=True) if idmapped else image
                script = 'read line < /etc/hello; echo "$line"; read line < /etc/shadow; echo "$line"; exit 0'
                return await run_on(lab, client, image, uppers, script, fd)
            finally:
                os.close(fd)

    return lab.call(body)


def test_t49_a_folder_in_place_is_read_as_a_stranger_reads_it(lab: Lab, tmp_path: Path) -> None:
    done = in_place(lab, tmp_path, idmapped=False)
    assert done.lines[0] == "for everybody", done.stderr
    assert "secret" not in done.stdout and "ermission denied" in done.stderr


def test_t49_control_idmapped_the_jobs_root_reads_the_hosts_secret(lab: Lab, tmp_path: Path) -> None:
    assert in_place(lab, tmp_path, idmapped=True).lines == ["for everybody", "root's secret"]
