"""The strict tar reader: agrees with tarfile on what is plain, refuses what could be read two ways, never crashes."""

from __future__ import annotations

import io
import os
import tarfile

import pytest
from builders_images import a_dir, a_file, a_hardlink, a_symlink, a_tar, header, padded, pax
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.images.limits import Limits, Refused
from runtime.images.tarstream import Member, TarReader, clean_path

LIMITS = Limits()


class Stream(io.BytesIO):
    def skip(self, count: int) -> None:
        if len(self.read(count)) < count:
            raise Refused("the archive ends in the middle of a file")


def read(data: bytes, limits: Limits = LIMITS) -> list[tuple[Member, bytes]]:
    reader = TarReader(Stream(data), limits)
    return [(member, b"".join(iter(reader.read_data, b""))) for member in reader.members()]


def members(data: bytes) -> list[Member]:
    return [member for member, _ in read(data)]


def test_a_file_with_everything() -> None:
    ((found, data),) = read(a_tar(a_file("./a/b", b"hello", mode=0o4755, uid=3, gid=4, mtime=5)))
    assert (found.path, found.kind, found.size, found.mode) == ("a/b", "file", 5, 0o4755)
    assert (found.uid, found.gid, found.mtime_ns, data) == (3, 4, 5 * 10**9, b"hello")


def test_data_that_is_not_taken_is_skipped() -> None:
    assert [m.path for m in members(a_tar(a_file("a", b"x" * 1000), a_file("b")))] == ["a", "b"]


def test_kinds() -> None:
    archive = a_tar(
        a_dir("d/"), a_symlink("s", "../../anywhere"), a_hardlink("h", "./d/x"), header("c", "3"), header("b", "4"),
        header("p", "6"), header("7", "7"), header("old/", "\0"), header("old-file", "\0"),
    )  # fmt: skip
    found = {m.path: (m.kind, m.link) for m in members(archive)}
    assert found == {
        "d": ("dir", ""), "s": ("symlink", "../../anywhere"), "h": ("hardlink", "d/x"), "c": ("device", ""),
        "b": ("device", ""), "p": ("fifo", ""), "7": ("file", ""), "old": ("dir", ""), "old-file": ("file", ""),
    }  # fmt: skip


def test_pax_overrides_the_header() -> None:
    records = {"path": "é/long", "size": "3", "uid": "70000", "mtime": "1.25", "SCHILY.xattr.user.x": b"\0\1"}
    ((found, data),) = read(a_tar(pax(records), a_file("short", b"abc")))
    assert (found.path, found.uid, found.mtime_ns, data) == ("é/long", 70000, 1_250_000_000, b"abc")
    assert found.xattrs == {"user.x": b"\0\1"}


def test_gnu_long_names() -> None:
    name = "d/" * 60 + "f"
    long = header("././@LongLink", "L", size=len(name) + 1, magic=b"ustar  \0") + padded(name.encode() + b"\0")
    assert [m.path for m in members(a_tar(long, a_file("cut", magic=b"ustar  \0")))] == [name]


def test_names_that_are_not_utf_8_survive() -> None:
    (found,) = members(a_tar(a_file(b"caf\xe9")))
    assert os.fsencode(found.path) == b"caf\xe9"


REFUSED = {
    "cut off before its end mark": (a_file("a"), "end mark"),
    "cut in a header": (a_file("a")[:300], "middle of a header"),
    "cut in a file": (a_file("a", b"x" * 600)[:700], "middle of a file"),
    "bytes after the end": (a_tar(a_file("a")) + b"x", "after the end"),
    "one zero block": (a_file("a") + bytes(512) + a_file("b") + bytes(1024), "zero block"),
    "wrong checksum": (a_tar(a_file("a")[:100] + b"7" + a_file("a")[101:]), "checksum"),
    "unknown magic": (a_tar(a_file("a", magic=b"tarfile\0")), "unknown kind of tar"),
    "unknown type": (a_tar(header("a", "Z")), "unknown type"),
    "sparse": (a_tar(header("a", "S", magic=b"ustar  \0")), "sparse"),
    "sparse by pax": (a_tar(pax({"GNU.sparse.major": "1"}), a_file("a")), "sparse"),
    "dir with data": (a_tar(header("a", "5", size=5), padded(b"hello")), "bytes of data"),
    "link with data": (a_tar(header("a", "1", size=5, link="b"), padded(b"hello")), "bytes of data"),
    "link with data by pax": (a_tar(pax({"size": "5"}), a_hardlink("a", "b"), padded(b"hello")), "bytes of data"),
    "file with a slash": (a_tar(header("a/", "0")), "ends in a slash"),
    "dotdot": (a_tar(a_file("a/../../b")), "'..'"),
    "dotdot by pax": (a_tar(pax({"path": "../b"}), a_file("a")), "'..'"),
    "dotdot as a hardlink's target": (a_tar(a_hardlink("a", "../b")), "'..'"),
    "absolute": (a_tar(a_file("/etc/x")), "absolute"),
    "absolute hardlink target": (a_tar(a_hardlink("a", "/etc/shadow")), "absolute"),
    "no name": (a_tar(a_file("")), "without a name"),
    "nul in a pax name": (a_tar(pax({"path": b"a\0b"}), a_file("a")), "no path"),
    "empty symlink": (a_tar(a_symlink("a", "")), "without a target"),
    "too deep": (a_tar(pax({"path": "d/" * 129 + "x"}), a_file("a")), "deeper than"),
    "long component": (a_tar(pax({"path": "n" * 256}), a_file("a")), "component longer"),
    "long path": (a_tar(pax({"path": "/".join(["n" * 250] * 17)}), a_file("a")), "longer than 4095"),
    "global path": (a_tar(pax({"path": "x"}, "g"), a_file("a")), "global header"),
    "pax twice": (a_tar(pax({"path": "x"}), pax({"path": "y"}), a_file("a")), "two extended headers"),
    "pax and gnu name": (
        a_tar(pax({"path": "x"}), header("l", "L", size=2) + padded(b"y\0"), a_file("a")),
        "two extended headers",
    ),
    "pax record twice": (a_tar(header("p", "x", size=18) + padded(b"9 path=x\n9 path=y\n"), a_file("a")), "two pax"),
    "pax of nothing": (a_tar(pax({"path": "x"})), "describes nothing"),
    "pax without a length": (a_tar(header("p", "x", size=7) + padded(b"path=x\n"), a_file("a")), "without its length"),
    "pax with a wrong length": (a_tar(header("p", "x", size=9) + padded(b"99 p=xyz\n"), a_file("a")), "length key"),
    "pax size that is none": (a_tar(pax({"size": "-1"}), a_file("a")), "not a number"),
    "endless headers": (a_tar(pax({"comment": "x" * (1 << 20)}), a_file("a")), "extended headers"),
    "not octal": (a_tar(a_file("a")).replace(b"0000644", b"000064x", 1), "checksum"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    data, words = REFUSED[case]
    with pytest.raises(Refused) as caught:
        read(data)
    assert words in caught.value.message


def test_a_negative_size_is_refused() -> None:
    block = bytearray(header("a"))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(Refused, match="negative size"):
        read(a_tar(bytes(block)))


def test_clean_path_is_relative_and_plain() -> None:
    assert clean_path(b"./a//b/./c/", LIMITS) == "a/b/c"
    assert clean_path(b"./", LIMITS) == ""


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=80).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
ENTRIES = st.lists(
    st.tuples(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from("fdl"), st.binary(max_size=1500)), max_size=6
)


@settings(max_examples=150, deadline=None)
@given(ENTRIES, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_reads_what_tarfile_writes(entries: list[tuple[list[str], str, bytes]], form: int) -> None:
    buffer = io.BytesIO()
    expected = []
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for parts, kind, data in entries:
            info = tarfile.TarInfo("/".join(parts))
            info.type = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE}[kind]
            info.size = len(data) if kind == "f" else 0
            info.linkname = "target" if kind == "l" else ""
            tar.addfile(info, io.BytesIO(data))
            expected.append((info.name, data if kind == "f" else b""))
    assert [(member.path, data) for member, data in read(buffer.getvalue())] == expected


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_refused_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(a_tar(pax({"path": "x", "mtime": "3.5"}), a_file("a", b"abc"), a_symlink("s", "t"), a_dir("d/")))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    block = data.draw(st.sampled_from((0, 1024, 2048)))
    whole[block + 148 : block + 156] = b" " * 8  # a right checksum lets the damage get further
    whole[block + 148 : block + 156] = b"%06o\0 " % sum(whole[block : block + 512])
    try:
        for member in members(bytes(whole)):
            assert ".." not in member.path.split("/") and not member.path.startswith("/")
    except Refused:
        pass
