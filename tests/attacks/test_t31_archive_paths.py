"""T31: archives that reach out of the image. Each probe is an import through the real jail.

Controls: the same archive taken by tarfile's extraction, or by our writer without its one defence, which must get out.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders_images import a_dir, a_file, a_hardlink, a_symlink, a_tar, header, layer_folders, pax, try_import

from jobs.errors import BadImage, JobsError
from runtime.images import pack, tree
from runtime.images.limits import Budget, Limits, Refused
from runtime.images.tarstream import TarReader

SECRET = b"of the host"

# Before 3.11.4, Debian 12's among them, that was the only way and had no name.
TRUSTING: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}


class Scene:
    """`target/` is where the control unpacks; `outside/` with a secret is where the attack wants to get."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "target"
        self.outside = folder / "outside"
        self.state = folder / "state"
        for made in (self.target, self.outside, self.state):
            made.mkdir()
        self.secret = self.outside / "secret"
        self.secret.write_bytes(SECRET)
        os.utime(self.secret, (0, 0))
        os.utime(self.outside, (0, 0))
        self.before = self.picture()

    def picture(self) -> list[tuple[str, bytes, int, int, list[str]]]:
        found = []
        for path in (self.outside, *sorted(self.outside.rglob("*"))):
            data = path.read_bytes() if path.is_file() else b""
            seen = path.lstat()
            found.append((str(path), data, seen.st_mode, seen.st_nlink, os.listxattr(path, follow_symlinks=False)))
        return found

    @property
    def touched(self) -> bool:
        return self.picture() != self.before

    def import_(self, archive: bytes) -> JobsError | None:
        """The refusal, or None when it was imported."""
        source = self.folder / "hostile.tar"
        source.write_bytes(archive)
        try:
            try_import(self.state, source, kind="tar")
        except JobsError as error:
            return error
        return None

    def extract_trustingly(self, archive: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(self.target, **TRUSTING)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


ESCAPES: dict[str, Callable[[Scene], bytes]] = {
    "dotdot": lambda s: a_tar(a_file("../outside/new", b"x")),
    "dotdot in the middle": lambda s: a_tar(a_dir("a/"), a_file("a/../../outside/new", b"x")),
    "dotdot by pax": lambda s: a_tar(pax({"path": "../outside/new"}), a_file("new", b"x")),
    "absolute name": lambda s: a_tar(pax({"path": f"{s.outside}/new"}), a_file("new", b"x")),
    "file through a symlink": lambda s: a_tar(a_symlink("d", "../outside"), a_file("d/new", b"x")),
    "file through an absolute symlink": lambda s: a_tar(
        pax({"linkpath": str(s.outside)}), a_symlink("d", "x"), a_file("d/new", b"x")
    ),
    "folder through a symlink": lambda s: a_tar(a_symlink("d", "../outside"), a_dir("d/made/")),
    "through two symlinks": lambda s: a_tar(
        a_symlink("a", ".."), a_symlink("b", "a/outside"), a_file("b/new", b"x")
    ),
    "over a symlink to a file": lambda s: a_tar(a_symlink("f", "../outside/secret"), a_file("f", b"overwritten")),
    "hardlink to a file outside": lambda s: a_tar(a_hardlink("h", "../outside/secret")),
    "hardlink through a symlink": lambda s: a_tar(a_symlink("d", "../outside"), a_hardlink("h", "d/secret")),
    "symlink made in a symlinked folder": lambda s: a_tar(a_symlink("d", "../outside"), a_symlink("d/l", "/etc")),
    "mode of a folder outside (CVE-2021-32760)": lambda s: a_tar(
        a_symlink("d", "../outside"), a_dir("d/", mode=0o777)
    ),
}  # fmt: skip
HARMLESS_IN_OURS = {"over a symlink to a file"}  # the link is replaced, never written through


@pytest.mark.parametrize("case", ESCAPES)
def test_t31_nothing_leaves_the_image(scene: Scene, case: str) -> None:
    refusal = scene.import_(ESCAPES[case](scene))
    assert not scene.touched
    if case in HARMLESS_IN_OURS:
        (layer,) = layer_folders(scene.state)
        assert (layer / "f").read_bytes() == b"overwritten" and not (layer / "f").is_symlink()
    else:
        assert isinstance(refusal, BadImage)
        assert refusal.message.startswith("hostile.tar: ")  # archive, member, reason
        assert refusal.message.count(": ") >= 2


@pytest.mark.parametrize("case", ESCAPES)
def test_t31_control_a_trusting_extraction_leaves_it(scene: Scene, case: str) -> None:
    scene.extract_trustingly(ESCAPES[case](scene))
    assert scene.touched


def test_t31_device_nodes_are_left_out(scene: Scene) -> None:
    archive = a_tar(header("mem", "3", device=(1, 1), mode=0o666), header("disk", "4", device=(7, 0), mode=0o666))
    assert scene.import_(archive) is None
    (layer,) = layer_folders(scene.state)
    assert list(layer.iterdir()) == []


def test_t31_control_a_trusting_extraction_makes_them(scene: Scene) -> None:
    scene.extract_trustingly(a_tar(header("mem", "3", device=(1, 1)), header("disk", "4", device=(7, 0))))
    assert stat.S_ISCHR((scene.target / "mem").stat().st_mode) and stat.S_ISBLK((scene.target / "disk").stat().st_mode)


SET_ID = a_tar(a_file("su", b"#!", mode=0o6755))


def test_t31_set_id_bits_and_file_capabilities_are_cleared(scene: Scene) -> None:
    capable = pax({"SCHILY.xattr.security.capability": b"\1\0\0\2\0\x20\0\0" + bytes(12)}) + a_file("ping", b"#!")
    assert scene.import_(a_tar(a_file("su", b"#!", mode=0o6755), capable)) is None
    (layer,) = layer_folders(scene.state)
    assert (layer / "su").stat().st_mode & 0o7777 == 0o755
    assert os.listxattr(layer / "ping") == []


def test_t31_control_a_trusting_extraction_keeps_set_id(scene: Scene) -> None:
    scene.extract_trustingly(SET_ID)
    assert (scene.target / "su").stat().st_mode & 0o7777 == 0o6755


HUGE_HEADER = a_tar(pax({"path": b"x" * (8 << 20)}), a_file("x"))


def test_t31_huge_pax_header(scene: Scene) -> None:
    refusal = scene.import_(HUGE_HEADER)
    assert refusal is not None and "extended headers" in refusal.message


def test_t31_control_tarfile_takes_it_into_memory() -> None:
    with tarfile.open(fileobj=io.BytesIO(HUGE_HEADER)) as tar:
        assert len(tar.getnames()[0]) == 8 << 20


# ── whiteouts ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh."])
def test_t31_whiteout_of_the_parent(scene: Scene, name: str) -> None:
    refusal = scene.import_(a_tar(a_dir("d/"), a_file(f"d/{name}")))
    assert refusal is not None and "whiteout of nothing" in refusal.message
    assert not scene.touched


def test_t31_control_a_naive_whiteout_removes_outside(scene: Scene) -> None:
    (scene.target / "d").mkdir()
    hidden = ".wh...".removeprefix(".wh.")
    os.rename(os.path.join(scene.target, hidden, "outside"), scene.folder / "removed")
    assert not scene.outside.exists()


OPAQUE_OUTSIDE = a_tar(a_symlink("d", "../outside"), a_file("d/.wh..wh..opq"))
WHITEOUT_OUTSIDE = a_tar(a_symlink("d", "../outside"), a_file("d/.wh.secret"))


@pytest.mark.parametrize("archive", [OPAQUE_OUTSIDE, WHITEOUT_OUTSIDE], ids=["opaque", "whiteout"])
def test_t31_whiteouts_through_a_symlink(scene: Scene, archive: bytes) -> None:
    refusal = scene.import_(archive)
    assert refusal is not None and "symbolic link" in refusal.message
    assert not scene.touched


def test_t31_a_layer_cannot_bring_overlay_marks_of_its_own(scene: Scene) -> None:
    """trusted.overlay.redirect would show another folder of the lower layers; a 0:0 device would be a whiteout."""
    marks = {f"SCHILY.xattr.{kind}.overlay.redirect": "/etc" for kind in ("trusted", "user")}
    assert scene.import_(a_tar(pax(marks), a_dir("d/"), header("w", "3", device=(0, 0)))) is None
    (layer,) = layer_folders(scene.state)
    assert os.listxattr(layer / "d") == []
    assert not os.path.lexists(layer / "w")


# ── our writer without its one defence, outside of the jail ──────────────────────────────────────────────────────


def write_unjailed(scene: Scene, archive: bytes) -> None:
    """`Tree` alone: no user namespace, no own root, no Landlock."""

    class Stream(io.BytesIO):
        def skip(self, count: int) -> None:
            self.read(count)

    limits = Limits()
    reader = TarReader(Stream(archive), limits)
    root = os.open(scene.target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        made = tree.Tree(root, Budget(limits), tree.Notes(10))
        for member in reader.members():
            made.add(member, reader.read_data)
        made.finish()
    finally:
        os.close(root)


THROUGH = a_tar(a_symlink("d", "../outside"), a_file("d/new", b"x"))


def test_t31_openat2_alone_holds(scene: Scene) -> None:
    with pytest.raises(Refused, match="symbolic link") as caught:
        write_unjailed(scene, THROUGH)
    assert caught.value.member == "d/new"
    assert not scene.touched


def test_t31_control_without_openat2s_flags_it_gets_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_RESOLVE", 0)
    write_unjailed(scene, THROUGH)
    assert scene.touched


# ── a folder that changes while it is packed (CVE-2025-47290 is the same race while unpacking) ───────────────────


def packed_while_swapped(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Right after `pack` has looked at a file or folder, its owner swaps it for a link. No luck with timing needed."""
    (scene.target / "d").mkdir()
    (scene.target / "d/plain").write_text("plain")
    true = pack._lstat

    def swapping(parent: int, name: str, path: str) -> os.stat_result:
        found = true(parent, name, path)
        if name == "d":
            (scene.target / "d").rename(scene.folder / "swapped")
            (scene.target / "d").symlink_to(scene.outside)
        return found

    monkeypatch.setattr(pack, "_lstat", swapping)
    folder = os.open(scene.target, os.O_RDONLY | os.O_DIRECTORY)
    output = io.BytesIO()
    try:
        pack.pack(folder, output)
    finally:
        os.close(folder)
    return output.getvalue()


def test_t31_a_folder_swapped_for_a_link_is_not_followed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pack.CannotPack, match=r"d: Not a directory|d: Too many levels"):
        packed_while_swapped(scene, monkeypatch)


def test_t31_control_without_nofollow_it_packs_the_secret(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_NOFOLLOW", 0)
    assert SECRET in packed_while_swapped(scene, monkeypatch)
