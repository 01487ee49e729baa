"""What the image tests share: a helper runner that starts real processes, and archives built member by member."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import zstandard
from anyio import to_thread

from jobs.errors import JobsError
from jobs.events import Owner
from runtime.images.imagefile import ImageInfo
from runtime.images.manifest import ARCHITECTURES
from runtime.images.store import ImageStore

T = TypeVar("T")
ROOT_OWNER = Owner(0, 0)
SKELETON = ("layers", "names")
MACHINE = ARCHITECTURES[platform.machine()]


@dataclass(frozen=True)
class Ran:
    status: int
    stdout: bytes
    stderr: bytes


async def run_helper(
    argv: Sequence[str],
    *,
    fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float = 300,
) -> Ran:
    """The launcher's `helper` verb with a plain subprocess: `fds` appear as 3, 4, 5 …"""

    def run() -> Ran:
        # dup above the target range first, so that no dup2 overwrites a source
        moves = "".join(f"exec {3 + index}<&{fd}\n" for index, fd in enumerate(high))
        closes = "".join(f" {fd}<&-" for fd in high)
        line = f'{moves}exec "$@"{closes}'
        done = subprocess.run(
            ["/bin/bash", "-c", line, "helper", *argv],
            input=stdin,
            capture_output=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})},
            pass_fds=high,
            timeout=timeout_s,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
    try:
        return await to_thread.run_sync(run)
    finally:
        for fd in high:
            os.close(fd)


async def make_userns(uid_map: str, gid_map: str) -> int:
    """`Launcher.idmap_userns` by a process that only lives until its namespace has maps."""

    def make() -> int:
        holder = subprocess.Popen(["unshare", "--user", "sh", "-c", "echo; read _"], stdin=-1, stdout=-1)
        assert holder.stdin is not None and holder.stdout is not None
        with holder:
            holder.stdout.readline()
            for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
                fd = os.open(f"/proc/{holder.pid}/{name}", os.O_WRONLY)
                os.write(fd, text.encode())
                os.close(fd)
            found = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            holder.stdin.close()
        return found

    return await to_thread.run_sync(make)


def a_store(state: Path, **settings: Any) -> ImageStore:
    return ImageStore(str(state), run_helper, make_userns, **settings)


def with_store(state: Path, work: Callable[[ImageStore], Awaitable[T]], **settings: Any) -> T:
    """Starts a store on `state` and runs `work` on it."""

    async def main() -> T:
        store = a_store(state, **settings)
        await store.start()
        return await work(store)

    return anyio.run(main)


async def import_path(
    store: ImageStore, name: str, path: Path, *, kind: str = "auto", owner: Owner = ROOT_OWNER
) -> ImageInfo:
    source = os.open(path, os.O_RDONLY)
    try:
        return await store.import_(name, source, kind=kind, owner=owner, archive=path.name)
    finally:
        os.close(source)


def try_import(state: Path, path: Path, *, kind: str = "auto", owner: Owner = ROOT_OWNER, **settings: Any) -> ImageInfo:
    """Imports `path` as `x` into a store on `state`; afterwards a refused import must have left nothing."""

    async def work(store: ImageStore) -> ImageInfo:
        return await import_path(store, "x", path, kind=kind, owner=owner)

    try:
        return with_store(state, work, **settings)
    except JobsError:
        assert leftovers(state) == []
        raise


def leftovers(state: Path) -> list[str]:
    """Everything below images/ but its two folders."""
    images = state / "images"
    return sorted(str(p.relative_to(images)) for p in images.rglob("*") if str(p.relative_to(images)) not in SKELETON)


def layer_folders(state: Path) -> list[Path]:
    return sorted((state / "images/layers").iterdir())


# ── archives, member by member ───────────────────────────────────────────────────────────────────────────────────────

MODES = {"5": 0o755, "2": 0o777}


def header(
    name: str | bytes,
    kind: str = "0",
    *,
    size: int = 0,
    link: str | bytes = "",
    mode: int | None = None,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    magic: bytes = b"ustar\x0000",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """One block of a tar, as hostile as asked for; the checksum is right."""
    block = b"".join(
        (
            os.fsencode(name)[:100].ljust(100, b"\0"),
            b"%07o\0" % (MODES.get(kind, 0o644) if mode is None else mode),
            b"%07o\0" % uid if uid < 1 << 21 else b"\x80" + uid.to_bytes(7, "big"),
            b"%07o\0" % gid if gid < 1 << 21 else b"\x80" + gid.to_bytes(7, "big"),
            b"%011o\0" % size,
            b"%011o\0" % mtime,
            b" " * 8,
            kind.encode(),
            os.fsencode(link)[:100].ljust(100, b"\0"),
            magic,
            bytes(64),
            b"%07o\0%07o\0" % device,
            bytes(167),
        )
    )
    assert len(block) == 512
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def a_file(name: str | bytes, data: bytes = b"", **rest: Any) -> bytes:
    return header(name, size=len(data), **rest) + padded(data)


def a_dir(name: str, **rest: Any) -> bytes:
    return header(name, "5", **rest)


def a_symlink(name: str, target: str, **rest: Any) -> bytes:
    return header(name, "2", link=target, **rest)


def a_hardlink(name: str, target: str, **rest: Any) -> bytes:
    return header(name, "1", link=target, **rest)


def pax(records: Mapping[str, bytes | str], kind: str = "x") -> bytes:
    """An extended header for the member that follows."""
    data = b""
    for key, value in records.items():
        text = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
        length = len(text) + 1
        while len(str(length)) + len(text) != length:
            length = len(str(length)) + len(text)
        data += str(length).encode() + text
    return header("pax", kind, size=len(data)) + padded(data)


def a_tar(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def a_config(layers: Sequence[bytes], **config: Any) -> dict[str, Any]:
    """`layers`: uncompressed tars, bottom first."""
    return {
        "architecture": MACHINE,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
    }


def docker_save(layers: Sequence[bytes], **config: Any) -> bytes:
    """As docker save wrote it before version 25: manifest.json and one folder per layer."""
    document = json.dumps(a_config(layers, **config)).encode()
    name = f"{digest_of(document)[7:]}.json"
    paths = [f"{digest_of(layer + str(index).encode())[7:]}/layer.tar" for index, layer in enumerate(layers)]
    manifest = json.dumps([{"Config": name, "RepoTags": ["made:up"], "Layers": paths}]).encode()
    folders = [a_dir(path.split("/")[0] + "/") + a_file(path, layer) for path, layer in zip(paths, layers, strict=True)]
    return a_tar(a_file(name, document), *folders, a_file("manifest.json", manifest), a_file("repositories", b"{}"))


PLAIN = "application/vnd.oci.image.layer.v1.tar"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    PLAIN: lambda data: data,
    f"{PLAIN}+gzip": lambda data: gzip.compress(data, mtime=0),
    f"{PLAIN}+zstd": lambda data: zstandard.compress(data),
}


class OciLayout:
    """Files of an OCI layout; change them before `tar` or `write`."""

    def __init__(self, layers: Sequence[bytes], media: str = f"{PLAIN}+gzip", **config: Any) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        self.config = a_config(layers, **config)
        self.manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {},
            "layers": [self.blob(PACKERS[media](layer), media) for layer in layers],
        }
        self.platform: dict[str, str] | None = {"os": "linux", "architecture": MACHINE}
        self.seal()

    def blob(self, data: bytes, media: str) -> dict[str, Any]:
        digest = digest_of(data)
        self.files[f"blobs/sha256/{digest[7:]}"] = data
        return {"mediaType": media, "digest": digest, "size": len(data)}

    def seal(self) -> OciLayout:
        """Writes config, manifest and index anew, with right digests."""
        config = json.dumps(self.config).encode()
        self.manifest["config"] = self.blob(config, "application/vnd.oci.image.config.v1+json")
        entry = self.blob(json.dumps(self.manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        if self.platform is not None:
            entry["platform"] = self.platform
        self.index([entry])
        return self

    def index(self, entries: Sequence[Mapping[str, Any]], **more: Any) -> None:
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": list(entries), **more}).encode()

    def tar(self) -> bytes:
        return a_tar(*(a_file(path, data) for path, data in self.files.items()))

    def write(self, folder: Path) -> Path:
        for path, data in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return folder
