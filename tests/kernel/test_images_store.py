"""The store with its real jail: every kind of source, shared layers, removal, crashes, rights. Real trees on disk."""

from __future__ import annotations

import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest
import zstandard
from builders_images import (
    PLAIN,
    OciLayout,
    a_dir,
    a_file,
    a_hardlink,
    a_store,
    a_symlink,
    a_tar,
    docker_save,
    header,
    import_path,
    layer_folders,
    leftovers,
    pax,
    try_import,
    with_store,
)

from jobs.errors import BadImage, HostError, ImageInUse, NoSuchImage
from jobs.events import Owner
from runtime.images.store import BLOCKS, ImageStore

ROOT = str(Path(__file__).resolve().parents[2])
BASE = a_tar(a_dir("bin/"), a_file("bin/sh", b"shell", mode=0o755), a_file("etc/old", b"old"))
TOP = a_tar(a_file("etc/.wh.old"), a_file("etc/new", b"new"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# ── kinds of sources ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_a_tar_of_a_root_filesystem(state: Path, tmp_path: Path, pack: type[bytes]) -> None:
    info = try_import(state, written(tmp_path / "r.tar", pack(BASE)))
    assert (info.kind, len(info.layers)) == ("rootfs", 1)
    (layer,) = layer_folders(state)
    assert (layer / "bin/sh").read_bytes() == b"shell"
    assert f"sha256:{layer.name}" == info.layers[0]


def test_compression_does_not_change_the_layer(state: Path, tmp_path: Path) -> None:
    async def work(store: ImageStore) -> None:
        await import_path(store, "a", written(tmp_path / "a", BASE))
        await import_path(store, "b", written(tmp_path / "b", gzip.compress(BASE)))
        await import_path(store, "c", written(tmp_path / "c", zstandard.compress(BASE)))

    with_store(state, work)
    assert len(layer_folders(state)) == 1


def test_docker_save_before_version_25(state: Path, tmp_path: Path) -> None:
    archive = docker_save([BASE, TOP], Env=["PATH=/bin", "X=1"], Cmd=["sh"], Entrypoint=["/e"], WorkingDir="/w")
    info = try_import(state, written(tmp_path / "d.tar", archive))
    assert (info.kind, len(info.layers)) == ("docker", 2)
    assert (info.env, info.cmd, info.entrypoint) == ((("PATH", "/bin"), ("X", "1")), ("sh",), ("/e",))
    assert info.workdir == "/w"


def test_docker_save_with_an_oci_layout_inside(state: Path, tmp_path: Path) -> None:
    """As docker 25 and later write it: both documents tell of one image."""
    layout = OciLayout([BASE, TOP], media=PLAIN)
    blobs = [f"blobs/sha256/{layer['digest'][7:]}" for layer in layout.manifest["layers"]]
    config = f"blobs/sha256/{layout.manifest['config']['digest'][7:]}"
    layout.files["manifest.json"] = json.dumps([{"Config": config, "RepoTags": [], "Layers": blobs}]).encode()
    assert try_import(state, written(tmp_path / "d.tar", layout.tar())).kind == "oci"


def test_docker_save_compressed_as_a_whole_and_with_linked_layers(state: Path, tmp_path: Path) -> None:
    members = a_tar(
        a_file("c.json", json.dumps(OciLayout([BASE, BASE]).config).encode()),
        a_file("1/layer.tar", BASE),
        a_symlink("2/layer.tar", "../1/layer.tar"),
        a_file("manifest.json", b'[{"Config":"c.json","Layers":["1/layer.tar","2/layer.tar"]}]'),
    )
    info = try_import(state, written(tmp_path / "d.tar.gz", gzip.compress(members)))
    assert len(info.layers) == 1  # one folder twice would be refused by overlay


@pytest.mark.parametrize("media", [PLAIN, f"{PLAIN}+gzip", f"{PLAIN}+zstd"])
def test_oci_layout_as_a_tar(state: Path, tmp_path: Path, media: str) -> None:
    info = try_import(state, written(tmp_path / "o.tar", OciLayout([BASE, TOP], media, User="daemon").tar()))
    assert (info.kind, len(info.layers), info.user) == ("oci", 2, "daemon")


def test_oci_layout_as_a_folder(state: Path, tmp_path: Path) -> None:
    info = try_import(state, OciLayout([BASE, TOP]).write(tmp_path / "layout"))
    assert (info.kind, len(info.layers)) == ("oci", 2)


def test_a_folder(state: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/a").write_text("a")
    os.link(tree / "etc/a", tree / "etc/b")
    (tree / "etc/l").symlink_to("/etc/shadow")
    os.mkfifo(tree / "fifo")
    os.chmod(tree / "etc", 0o2750)
    os.utime(tree / "etc/a", ns=(0, 1_000_000_000))
    info = try_import(state, tree)
    (layer,) = layer_folders(state)
    assert (layer / "etc/a").stat().st_nlink == 2
    assert (layer / "etc/a").stat().st_mtime == 1
    assert os.readlink(layer / "etc/l") == "/etc/shadow"
    assert stat.S_IMODE((layer / "etc").stat().st_mode) == 0o2750
    assert any("fifo" in note for note in info.notes)
    assert not (layer / "fifo").exists()


def test_the_same_folder_is_the_same_layer(state: Path, tmp_path: Path) -> None:
    for name in ("z", "a", "m"):
        (tmp_path / "tree" / name).mkdir(parents=True)

    async def work(store: ImageStore) -> None:
        one = await import_path(store, "one", tmp_path / "tree")
        assert (await import_path(store, "two", tmp_path / "tree")).layers == one.layers

    with_store(state, work)


# ── what is in the tree ──────────────────────────────────────────────────────────────────────────────────────────


def test_owners_modes_times_links_and_attributes(state: Path, tmp_path: Path) -> None:
    archive = a_tar(
        a_dir("./", mode=0o750, uid=7, gid=8, mtime=100),
        a_dir("d/", mode=0o1777, mtime=200),
        pax({"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": b"\1\0\0\2", "mtime": "9.5"}),
        a_file("d/f", b"x", mode=0o6755, uid=65535, gid=1),
        a_symlink("d/s", "nowhere", uid=5),
        a_hardlink("d/h", "d/f"),
        a_hardlink("d/hs", "d/s"),
        header("d/null", "3", device=(1, 3)),
        a_file("made/for/it/x", b"y"),
    )
    info = try_import(state, written(tmp_path / "r.tar", archive))
    (layer,) = layer_folders(state)
    root, folder, file = layer.stat(), (layer / "d").stat(), (layer / "d/f").stat()
    assert (root.st_mode & 0o7777, root.st_uid, root.st_gid, root.st_mtime) == (0o750, 7, 8, 100)
    assert (folder.st_mode & 0o7777, folder.st_mtime) == (0o1777, 200)
    assert (file.st_mode & 0o7777, file.st_uid, file.st_gid, file.st_nlink) == (0o755, 65535, 1, 2)
    assert file.st_mtime_ns == 9_500_000_000
    assert os.listxattr(layer / "d/f") == ["user.a"]
    assert (layer / "d/s").lstat().st_uid == 5 and (layer / "d/hs").is_symlink()
    assert not (layer / "d/null").exists()
    assert (layer / "made/for/it").stat().st_mode & 0o7777 == 0o755
    assert len(info.notes) == 3  # device, set-id, attribute


def test_a_later_member_replaces_an_earlier_one(state: Path, tmp_path: Path) -> None:
    try_import(state, written(tmp_path / "r.tar", a_tar(a_file("a", b"1"), a_symlink("a", "x"), a_file("a", b"2"))))
    (layer,) = layer_folders(state)
    assert (layer / "a").read_bytes() == b"2"


def test_whiteouts_become_what_overlay_understands(state: Path, tmp_path: Path) -> None:
    archive = a_tar(
        a_file("a/.wh.gone"), a_file("b/.wh..wh..opq"), a_file("b/kept"), a_file(".wh..wh.plnk"),
        a_file(".wh.c"), a_dir("c/"), a_dir("e/"), a_file(".wh.e"), a_file("f"), a_file(".wh.f"),
        a_file(".wh.g"), a_file("g/deep/x"),
    )  # fmt: skip
    try_import(state, written(tmp_path / "r.tar", archive))
    (layer,) = layer_folders(state)
    gone = (layer / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    opaque = {name for name in "abceg" if "trusted.overlay.opaque" in os.listxattr(layer / name)}
    assert opaque == {"b", "c", "e", "g"}  # a folder and its whiteout: the lower one is hidden, this one stays
    assert os.getxattr(layer / "b", "trusted.overlay.opaque") == b"y"
    assert (layer / "f").is_file() and not (layer / ".wh.f").exists()
    assert sorted(os.listdir(layer)) == ["a", "b", "c", "e", "f", "g"]


def test_nobody_else_reaches_the_layers(state: Path, tmp_path: Path) -> None:
    try_import(state, written(tmp_path / "r.tar", a_tar(a_file("open", b"x", mode=0o666))))
    state.chmod(0o711)  # even if the state folder above were open
    for folder in ("images", "images/layers", "images/names"):
        assert stat.S_IMODE((state / folder).stat().st_mode) == 0o700
    (layer,) = layer_folders(state)
    for parent in tmp_path.parents:
        if parent != Path("/tmp") and str(parent).startswith("/tmp/"):
            parent.chmod(0o711)
    tmp_path.chmod(0o711)
    done = subprocess.run(["cat", layer / "open"], user=65534, group=65534, extra_groups=[], capture_output=True)
    assert b"Permission denied" in done.stderr


# ── rights ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_read_with_the_rights_of_who_asks(state: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "secret").write_text("of root")
    (tree / "secret").chmod(0o600)
    with pytest.raises(BadImage, match="secret: Permission denied") as caught:
        try_import(state, tree, owner=Owner(1000, 1000))
    assert "uid 1000" in caught.value.message
    assert try_import(state, tree).kind == "rootfs"  # control: its owner may


def test_groups_count(state: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "shared").write_text("x")
    os.chown(tree / "shared", 0, 4242)
    (tree / "shared").chmod(0o640)
    with pytest.raises(BadImage, match="Permission denied"):
        try_import(state, tree, owner=Owner(1000, 1000, (1001,)))
    assert try_import(state, tree, owner=Owner(1000, 1000, (1001, 4242))).files


def test_the_owner_of_a_folder_becomes_root_of_the_image(state: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "mine").write_text("x")
    for path in (tree, tree / "mine"):
        os.chown(path, 100_000, 100_001)
    try_import(state, tree, owner=Owner(100_000, 100_001))
    (layer,) = layer_folders(state)
    assert ((layer / "mine").stat().st_uid, (layer / "mine").stat().st_gid) == (0, 0)


# ── names, layers, removal ───────────────────────────────────────────────────────────────────────────────────────


def test_layers_are_shared_and_collected_by_reference(state: Path, tmp_path: Path) -> None:
    async def work(store: ImageStore) -> None:
        await import_path(store, "one", written(tmp_path / "1", docker_save([BASE])))
        await import_path(store, "two", written(tmp_path / "2", docker_save([BASE, TOP])))
        assert len(layer_folders(state)) == 2
        assert [info.name for info in await store.list()] == ["one", "two"]
        await store.remove("two")
        assert len(layer_folders(state)) == 1
        await store.remove("one")
        assert layer_folders(state) == []
        with pytest.raises(NoSuchImage):
            await store.remove("one")

    with_store(state, work)
    assert leftovers(state) == []


def test_a_held_image_stays(state: Path, tmp_path: Path) -> None:
    async def work(store: ImageStore) -> None:
        await import_path(store, "one", written(tmp_path / "1", docker_save([BASE, TOP], WorkingDir="/w")))
        root = store.hold("one")
        assert root.idmapped and root.workdir == "/w" and len(root.lower) == 2
        assert os.path.exists(f"{root.lower[0]}/etc/new") and os.path.exists(f"{root.lower[1]}/bin/sh")  # top first
        store.hold("one")
        store.release("one")
        with pytest.raises(ImageInUse, match="1 running job"):
            await store.remove("one")
        store.release("one")
        await store.remove("one")

    with_store(state, work)


def test_a_name_is_given_once(state: Path, tmp_path: Path) -> None:
    async def work(store: ImageStore) -> None:
        await import_path(store, "one", written(tmp_path / "1", BASE))
        with pytest.raises(BadImage, match="exists"):
            await import_path(store, "one", written(tmp_path / "2", TOP))
        assert len(layer_folders(state)) == 1

    with_store(state, work)


def test_many_imports_of_the_same_layers_at_once(state: Path, tmp_path: Path) -> None:
    archive = written(tmp_path / "d.tar", docker_save([BASE, TOP]))

    async def work(store: ImageStore) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(import_path, store, f"n{number}", archive)
        assert len(await store.list()) == 6
        assert len(layer_folders(state)) == 2

    with_store(state, work)
    assert [name for name in os.listdir(state / "images") if name.startswith("new-")] == []


def test_two_imports_of_one_name_at_once(state: Path, tmp_path: Path) -> None:
    outcomes: list[str] = []

    async def work(store: ImageStore) -> None:
        async def one(data: bytes) -> None:
            try:
                await import_path(store, "same", written(tmp_path / str(len(data)), data))
                outcomes.append("made")
            except BadImage:
                outcomes.append("refused")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, BASE)
            tasks.start_soon(one, TOP + bytes(1024))

    with_store(state, work)
    assert sorted(outcomes) == ["made", "refused"]
    assert len(layer_folders(state)) == 1


def test_a_cancelled_import_leaves_nothing(state: Path, tmp_path: Path) -> None:
    """The helper stands still until the import is cancelled."""

    async def work(store: ImageStore) -> None:
        entered = anyio.Event()

        async def stuck(*args: object, **kwargs: object) -> object:
            entered.set()
            await anyio.sleep_forever()

        store._importer._helper = stuck  # type: ignore[assignment]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(import_path, store, "x", written(tmp_path / "1", BASE))
            await entered.wait()
            assert any(name.startswith("new-") for name in os.listdir(state / "images"))
            tasks.cancel_scope.cancel()
        # its programs may still run: nobody else gets their ids
        assert len(store._importer._free) == BLOCKS - 1

    with_store(state, work)
    assert leftovers(state) == []


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["unpack", "adopt", "write_whole"])
def test_killed_in_an_import_the_next_start_cleans_up(state: Path, tmp_path: Path, where: str) -> None:
    """SIGKILL after unpacking, between two layers, and before the name is written."""
    archive = written(tmp_path / "d.tar", docker_save([BASE, TOP]))
    program = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, "tests")
        from builders_images import try_import
        from runtime.images import importing, layers, store
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)
        where = {where!r}
        if where == "unpack":
            store.imagefile.unpacked = lambda report: die()
        elif where == "adopt":
            true = layers.Layers.adopt
            layers.Layers.adopt = lambda *args: (true(*args), die())
        else:
            store.write_whole = lambda *args: die()
        try_import(Path({str(state)!r}), Path({str(archive)!r}))
    """)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(name.startswith("new-") for name in os.listdir(state / "images"))

    async def restart() -> None:
        store = a_store(state)
        assert await store.start()
        assert leftovers(state) == []
        assert await store.list() == []
        assert await store.start() == []  # nothing left to say
        await import_path(store, "x", archive)

    anyio.run(restart)
    assert len(layer_folders(state)) == 2


def test_a_start_is_not_stopped_by_what_cannot_be_removed(state: Path) -> None:
    """As a tree in which an unpacker of a killed daemon still writes; here a mount point."""
    busy = state / "images/new-old/tree"
    busy.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", busy], check=True)
    try:
        assert anyio.run(a_store(state).start) == []
        assert busy.exists()
    finally:
        subprocess.run(["umount", busy], check=True)
    assert anyio.run(a_store(state).start) == [str(busy.parent)]
    assert leftovers(state) == []


def test_a_torn_name_file_is_no_image_and_a_damaged_one_stops_collecting(state: Path, tmp_path: Path) -> None:
    try_import(state, written(tmp_path / "1", BASE))
    (state / "images/names/y.json.new").write_text("{")
    (state / "images/names/z.json").write_text("{")

    async def work(store: ImageStore) -> None:
        assert not (state / "images/names/y.json.new").exists()
        with pytest.raises(HostError, match=r"z\.json"):
            store.resolve("z")
        assert [info.name for info in await store.list()] == ["x"]
        await store.remove("x")
        assert len(layer_folders(state)) == 1  # z may need it
        await store.remove("z")
        assert layer_folders(state) == []

    with_store(state, work)


def test_a_jail_that_dies_is_reported_and_leaves_nothing(state: Path, tmp_path: Path) -> None:
    async def work(store: ImageStore) -> None:
        true = store._importer._helper

        async def killing(argv: list[str], **rest: object) -> object:
            broken = [part.replace("main()", "import os; os.kill(os.getpid(), 9)") for part in argv]
            return await true(broken, **rest)  # type: ignore[arg-type]

        store._importer._helper = killing  # type: ignore[assignment]
        with pytest.raises(HostError, match="the unpacker ended with status") as caught:
            await import_path(store, "x", written(tmp_path / "1", BASE))
        assert "memory" in caught.value.hint

    with_store(state, work)
    assert leftovers(state) == []


def test_a_report_that_lies_is_refused(state: Path, tmp_path: Path) -> None:
    """Whoever broke the unpacker's program speaks through the report: opaque folders that lead out of the layer."""
    outside = tmp_path / "outside"
    outside.mkdir()
    lie = json.dumps({
        "kind": "rootfs", "bytes": 1, "files": 1, "left_out": {}, "names": {},
        "config": {"env": [], "entrypoint": [], "cmd": [], "workdir": "", "user": ""},
        "layers": [{"diff_id": "sha256:" + "0" * 64, "made": True, "opaque": ["out"]}],
    })  # fmt: skip
    program = (
        "import os; from runtime.images import jail; from runtime.images.limits import Limits; "
        "jail.enter(4, 5, Limits(), keep=(3, 6)); os.mkdir('/0'); "
        f"os.symlink({str(outside)!r}, '/0/out'); os.write(6, {lie.encode()!r})"
    )

    async def work(store: ImageStore) -> None:
        true = store._importer._helper

        async def lying(argv: list[str], **rest: object) -> object:
            return await true([part.partition("from runtime")[0] + program if "main()" in part else part
                               for part in argv], **rest)  # type: ignore[arg-type]  # fmt: skip

        store._importer._helper = lying  # type: ignore[assignment]
        with pytest.raises(HostError, match="image:commit"):
            await import_path(store, "x", written(tmp_path / "1", BASE))

    with_store(state, work)
    assert os.listxattr(outside) == []
    assert leftovers(state) == []
