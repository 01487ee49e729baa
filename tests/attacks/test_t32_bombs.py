"""T32: decompression bombs and archives that are small but expensive. The controls are the same without that limit.

Limits are lowered so that the test costs little; the numbers of the real ones are data (runtime/images/limits.py).
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from builders_images import OciLayout, a_dir, a_file, a_hardlink, a_tar, docker_save, header, pax, try_import

from jobs.errors import BadImage, HostError, JobsError
from runtime.images import importing
from runtime.images.limits import Limits

MIB = 1 << 20
ZEROS = a_tar(a_file("zeros", bytes(80 * MIB)))
FREE = MIB  # ratio_free_bytes
MANY = a_tar(*(a_file(f"{number}") for number in range(600)))
LINKED = a_tar(a_file("f"), *(a_hardlink(f"l{number}", "f") for number in range(600)))
CHAIN = a_tar(a_file("l0"), *(a_hardlink(f"l{number + 1}", f"l{number}") for number in range(600)))
DEEP = a_tar(a_dir("d/" * 49))
BIG_DOCUMENT = b'{"padding":"' + b"x" * (2 * MIB) + b'",' + b'"schemaVersion":2,"manifests":[]}'


def a_window_bomb() -> bytes:
    """Few bytes that make a decoder take 1 GiB before the first byte comes out (RFC 8878, Window_Descriptor)."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(a_tar(a_file("x"))) + packer.flush()


def a_big_manifest() -> bytes:
    layout = OciLayout([a_tar(a_file("x"))])
    layout.manifest["annotations"] = {"padding": "x" * (2 * MIB)}
    return layout.seal().tar()


BOMBS: dict[str, tuple[Callable[[], bytes], dict[str, Any], str]] = {
    "gzip": (lambda: gzip.compress(ZEROS), {"ratio_free_bytes": FREE}, "decompression bomb"),
    "zstd": (lambda: zstandard.compress(ZEROS), {"ratio_free_bytes": FREE}, "decompression bomb"),
    "bytes": (lambda: a_tar(a_file("big", bytes(2 * MIB))), {"bytes_out": MIB}, "more than"),
    "bytes of several layers": (
        lambda: docker_save([a_tar(a_file(str(n), bytes(MIB))) for n in range(4)]),
        {"bytes_out": 3 * MIB},
        "more than",
    ),
    "one blob as many layers": (
        lambda: docker_save([a_tar(a_file("a", bytes(MIB)))] * 5),
        {"bytes_out": 4 * MIB},
        "more than",
    ),
    "gzip of a bomb of a docker archive": (
        lambda: gzip.compress(docker_save([a_tar(a_file("a", bytes(4 * MIB)))])),
        {"bytes_out": 2 * MIB},
        "more than",
    ),
    "tiny files": (lambda: gzip.compress(MANY), {"inodes": 400}, "more than 400 files"),
    "hard links to one file": (lambda: LINKED, {"inodes": 400}, "more than 400 files"),
    "a chain of links": (lambda: CHAIN, {"inodes": 400}, "more than 400 files"),
    "folders made for a path": (
        lambda: a_tar(*(a_file(f"{number}/a/b/c") for number in range(160))),
        {"inodes": 400},
        "more than 400 files",
    ),
    "deep folders": (lambda: DEEP, {"depth": 40}, "deeper than 40"),
    "extended headers": (
        lambda: a_tar(pax({"comment": "x" * MIB}), a_file("x")),
        {"header_bytes": MIB // 2},
        "extended headers",
    ),
    "many layers": (lambda: docker_save([a_tar(a_file(str(n))) for n in range(6)]), {"layers": 5}, "6 layers"),
    "a big document": (a_big_manifest, {"json_bytes": MIB}, "a document of"),
}


def written(tmp_path: Path, data: bytes) -> Path:
    source = tmp_path / "bomb"
    source.write_bytes(data)
    return source


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("case", BOMBS)
def test_t32_refused_and_nothing_left(state: Path, tmp_path: Path, case: str) -> None:
    make, limits, words = BOMBS[case]
    with pytest.raises(BadImage) as caught:
        try_import(state, written(tmp_path, make()), limits=Limits(**limits))  # try_import looks for leftovers
    assert words in caught.value.message


@pytest.mark.parametrize("case", BOMBS)
def test_t32_control_without_that_limit_it_goes_off(state: Path, tmp_path: Path, case: str) -> None:
    make, limits, _ = BOMBS[case]
    roomy = {"ratio_free_bytes": 1 << 40} if "ratio_free_bytes" in limits else dict.fromkeys(limits, 1 << 40)
    assert try_import(state, written(tmp_path, make()), limits=Limits(**roomy)).layers


def test_t32_the_real_ratio_stops_a_classic_bomb(state: Path, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="decompression bomb"):
        try_import(state, written(tmp_path, zstandard.compress(ZEROS)))


def test_t32_a_sparse_file_is_refused(state: Path, tmp_path: Path) -> None:
    """8 GiB of holes in one block of a header."""
    with pytest.raises(BadImage, match="sparse file"):
        try_import(state, written(tmp_path, a_tar(header("holes", "S", magic=b"ustar  \0"))))
    with pytest.raises(BadImage, match="sparse file"):
        sparse = pax({"GNU.sparse.major": "1", "GNU.sparse.realsize": str(8 << 30)}) + a_file("holes")
        try_import(state, written(tmp_path, a_tar(sparse)))


def test_t32_a_window_of_a_gigabyte(state: Path, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="too much memory"):
        try_import(state, written(tmp_path, a_window_bomb()))


def test_t32_control_the_window_bomb_is_real() -> None:
    reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(a_window_bomb())
    assert reader.read(1 << 20) == a_tar(a_file("x"))


def test_t32_memory_of_the_jail_is_limited(state: Path, tmp_path: Path) -> None:
    """A document of 6 MiB of brackets, in a jail of 96 MiB: CVE-2023-25153."""
    layout = OciLayout([a_tar(a_file("x"))])
    layout.files["index.json"] = b'{"schemaVersion":2,"manifests":[' + b"[]," * (2 * MIB) + b"{}]}"
    with pytest.raises(JobsError) as caught:
        try_import(state, written(tmp_path, layout.tar()), limits=Limits(memory_bytes=96 * MIB))
    assert "memory" in str(caught.value) + caught.value.hint
    with pytest.raises(BadImage, match="JSON object is missing"):  # control: with its usual memory it is read
        try_import(state, written(tmp_path, layout.tar()))


def test_t32_cpu_time_is_limited(state: Path, tmp_path: Path) -> None:
    """100,000 members that make nothing: within every other limit, and more work than one second allows."""
    source = written(tmp_path, zstandard.compress(a_tar(header("null", "3", device=(1, 3)) * 100_000)))
    with pytest.raises(HostError, match="unpacker ended with status") as caught:
        try_import(state, source, limits=Limits(cpu_s=1, ratio_free_bytes=1 << 40))
    assert "out of time" in caught.value.hint


def test_t32_control_with_its_usual_time_it_ends(state: Path, tmp_path: Path) -> None:
    source = written(tmp_path, zstandard.compress(a_tar(header("null", "3", device=(1, 3)) * 100_000)))
    assert "100000" in try_import(state, source, limits=Limits(ratio_free_bytes=1 << 40)).notes[0]


def test_t32_the_state_filesystem_is_never_filled(state: Path) -> None:
    """Nine tenths of what is free is the most, whatever the limits say."""
    assert importing.within_free_space(Limits(bytes_out=1 << 60), str(state)).bytes_out < free_bytes(state)
    assert importing.within_free_space(Limits(bytes_out=1000), str(state)).bytes_out == 1000
