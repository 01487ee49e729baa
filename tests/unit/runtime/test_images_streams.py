"""Decompression: cut, damaged and endless streams end in a refusal that names the trouble."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
import zstandard

from runtime.images.limits import Budget, Limits, Refused
from runtime.images.streams import Bytes, Digest, decompressed, format_of

DATA = b"some text, " * 1000


def unpack(form: str, data: bytes, limits: Limits | None = None) -> bytes:
    stream: Bytes = decompressed(io.BytesIO(data), form, Budget(limits or Limits()))
    return b"".join(iter(lambda: stream.read(1000), b""))


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_several_members_or_frames_are_one_stream(form: str) -> None:
    pack = gzip.compress if form == "gzip" else zstandard.compress
    assert unpack(form, pack(DATA) + pack(b"more")) == DATA + b"more"


def test_zeros_after_gzip_are_padding() -> None:
    assert unpack("gzip", gzip.compress(DATA) + bytes(70_000)) == DATA


REFUSED = {
    "gzip cut": ("gzip", gzip.compress(DATA)[:-10], "cut off"),
    "gzip cut at once": ("gzip", b"", "cut off"),
    "gzip damaged": ("gzip", gzip.compress(DATA)[:30] + b"\xff" * 30, "damaged gzip"),
    "gzip wrong checksum": ("gzip", gzip.compress(DATA)[:-8] + bytes(8), "damaged gzip"),
    "gzip and junk": ("gzip", gzip.compress(DATA) + b"junk", "after the end of the gzip"),
    "zstd damaged": ("zstd", zstandard.compress(DATA)[:6] + b"\xff" * 30, "damaged zstd"),
    "zstd and junk": ("zstd", zstandard.compress(DATA) + b"junkjunk", "damaged zstd"),
    "raw deflate": ("gzip", zlib.compress(DATA), "damaged gzip"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    form, data, words = REFUSED[case]
    with pytest.raises(Refused, match=words):
        unpack(form, data)


@pytest.mark.parametrize("form", ["gzip", "zstd", "tar"])
def test_bytes_out_are_limited(form: str) -> None:
    data = {"gzip": gzip.compress, "zstd": zstandard.compress, "tar": bytes}[form](DATA)
    assert unpack(form, data, Limits(bytes_out=len(DATA))) == DATA
    with pytest.raises(Refused, match="more than"):
        unpack(form, data, Limits(bytes_out=len(DATA) - 1))


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_the_ratio_is_limited_beyond_what_is_free(form: str) -> None:
    zeros = bytes(1 << 20)
    data = gzip.compress(zeros) if form == "gzip" else zstandard.compress(zeros)
    assert unpack(form, data, Limits(ratio_free_bytes=1 << 20)) == zeros
    with pytest.raises(Refused, match="bomb"):
        unpack(form, data, Limits(ratio_free_bytes=1 << 19))


def test_digest_counts_and_hashes_what_passes() -> None:
    digest = Digest(io.BytesIO(b"abc"))
    digest.skip(1)
    assert digest.drain() == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert digest.count == 3


def test_formats_are_named() -> None:
    assert format_of(gzip.compress(b"")) == "gzip"
    assert format_of(zstandard.compress(b"x")) == "zstd"
    assert format_of(b"\xfd7zXZ\0") == "xz"
    assert format_of(bytes(257) + b"ustar\x0000") == "tar"
    assert format_of(b"hello") == ""
