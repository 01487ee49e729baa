"""How much one import may cost, and the counting. Every source is hostile. Pure; runs in the jail."""

from __future__ import annotations

from dataclasses import dataclass


class Refused(Exception):
    """What the jail says about its source. The text is shown to the user; `member` may be ""."""

    def __init__(self, message: str, *, member: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message, self.member, self.hint = message, member, hint


@dataclass(frozen=True, slots=True)
class Limits:
    """Room for the largest images in common use (CUDA, TeX: about 10 GiB, 400,000 files) and a reserve."""

    bytes_out: int = 32 << 30  # of all layers together, uncompressed
    bytes_in: int = 32 << 30  # of the source
    ratio: int = 100  # uncompressed : compressed, per stream; real layers stay below 20
    ratio_free_bytes: int = 64 << 20  # below that the ratio does not matter
    inodes: int = 2_000_000
    depth: int = 128  # folders in a path; a removal keeps one descriptor per level
    path_bytes: int = 4095  # PATH_MAX without its NUL
    name_bytes: int = 255  # NAME_MAX
    header_bytes: int = 1 << 20  # pax and GNU long-name records of one member
    json_bytes: int = 8 << 20  # manifest, index or config
    layers: int = 127  # as other engines; overlay's own limit is 500
    notes: int = 50  # named members in the report, per kind
    memory_bytes: int = 1 << 30  # RLIMIT_AS of the jail; zstd windows up to 128 MiB are part of it
    cpu_s: int = 3600
    wall_s: int = 3600


class Budget:
    """Counts what one import has used. Each method raises Refused at its limit."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.bytes_out = 0
        self.inodes = 0

    def spend_bytes(self, count: int) -> None:
        self.bytes_out += count
        if self.bytes_out > self.limits.bytes_out:
            raise Refused(f"unpacks to more than {self.limits.bytes_out} bytes")

    def spend_inode(self) -> None:
        self.inodes += 1
        if self.inodes > self.limits.inodes:
            raise Refused(f"has more than {self.limits.inodes} files")

    def check_ratio(self, bytes_in: int, bytes_out: int) -> None:
        if bytes_out > self.limits.ratio_free_bytes and bytes_out > self.limits.ratio * bytes_in:
            raise Refused(f"unpacks to more than {self.limits.ratio} times its size: looks like a decompression bomb")
