"""Finds out what a source is (root filesystem, docker-save archive, OCI layout) and where its layers lie. Jailed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass

from runtime.images.limits import Budget, Limits, Refused
from runtime.images.manifest import (
    INDEX_MEDIA,
    LAYER_MEDIA,
    Config,
    Descriptor,
    choose,
    parse_config,
    parse_docker,
    parse_json,
    parse_manifest,
)
from runtime.images.streams import CHUNK, Bytes, Pipe, Window, decompressed, format_of
from runtime.images.tarstream import TarReader, clean_path

_HEAD = 2048
_MEMBERS = 100_000  # of an image archive: blobs, not files
_ROOTISH = frozenset({"bin", "sbin", "etc", "usr", "lib", "var", "dev", "proc", "root", "tmp"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as it lies in the source. Empty digests are not promised by the source."""

    name: str
    content: Bytes
    form: str  # gzip | zstd | tar
    digest: str = ""
    diff_id: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    kind: str  # rootfs | docker | oci
    layers: tuple[Layer, ...]  # bottom first
    config: Config


def read_source(fd: int, kind: str, limits: Limits, machine: str) -> Recipe:
    """`kind` is `tar` (a root filesystem and nothing else), `archive` (docker or OCI) or `auto`. Raises Refused."""
    head, content = _begin(fd)
    form = format_of(head)
    if form not in ("tar", "gzip", "zstd"):
        what = f"this is {form}" if form else "this is something else"
        raise Refused(f"not a tar archive, plain or compressed with gzip or zstd: {what}")
    if kind == "tar":
        return _rootfs(content, form)
    file, size = _random_access(fd, content, form, limits)
    members = _index(file, size, limits) if kind == "archive" or _may_be_image(file, size, limits) else None
    if members is None:
        return _rootfs(Window(file, 0, size), "tar")
    return Archive(file, members, limits, machine).recipe()


def _rootfs(content: Bytes, form: str) -> Recipe:
    return Recipe("rootfs", (Layer("", content, form),), Config())


class _Rejoined:
    """The head that was looked at, then the rest."""

    def __init__(self, head: bytes, rest: Bytes) -> None:
        self._head, self._rest = head, rest

    def read(self, count: int) -> bytes:
        if self._head:
            data, self._head = self._head[:count], self._head[count:]
            return data
        return self._rest.read(count)


def _begin(fd: int) -> tuple[bytes, Bytes]:
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode):
        return os.pread(fd, _HEAD, 0), Window(fd, 0, found.st_size)
    if not stat.S_ISFIFO(found.st_mode):
        raise Refused("neither a file nor a folder")
    head = bytearray()
    while len(head) < _HEAD and (data := os.read(fd, _HEAD - len(head))):
        head += data
    return bytes(head), _Rejoined(bytes(head), Pipe(fd))


def _random_access(fd: int, content: Bytes, form: str, limits: Limits) -> tuple[int, int]:
    """(file, size) of an uncompressed tar: the source itself, or a nameless copy inside the jail."""
    if form == "tar" and isinstance(content, Window):
        return fd, os.fstat(fd).st_size
    spool = os.open("/", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    stream = decompressed(content, form, Budget(limits))
    size = 0
    while data := stream.read(CHUNK):
        view = memoryview(data)
        while view:
            written = os.write(spool, view)
            size, view = size + written, view[written:]
    return spool, size


def _may_be_image(file: int, size: int, limits: Limits) -> bool:
    """Docker or OCI documents at the top; together with folders of a root filesystem that is refused as ambiguous."""
    documents: set[str] = set()
    rootish: set[str] = set()
    for member in TarReader(Window(file, 0, size), limits).members():
        top, _, rest = member.path.partition("/")
        if not rest and member.kind == "file" and top in ("manifest.json", "oci-layout"):
            documents.add(top)
        elif top in _ROOTISH:
            rootish.add(top)
    if documents and rootish:
        has = " and ".join(sorted(documents))
        raise Refused(
            f"has {has} like an image archive and {sorted(rootish)[0]}/ like a root filesystem",
            hint="for a root filesystem say --kind tar",
        )
    return bool(documents)


@dataclass(frozen=True, slots=True)
class _Place:
    start: int
    size: int
    link: str = ""


def _index(file: int, size: int, limits: Limits) -> dict[str, _Place]:
    """Files of an image archive. Two of one name are refused: programs differ in which they take."""
    window = Window(file, 0, size)
    places: dict[str, _Place] = {}
    for member in TarReader(window, limits).members():
        if member.kind == "dir":
            continue
        if member.kind not in ("file", "symlink", "hardlink"):
            raise Refused(f"a {member.kind} in an image archive", member=member.path)
        if member.path in places:
            raise Refused("two members of one name", member=member.path)
        if len(places) >= _MEMBERS:
            raise Refused(f"more than {_MEMBERS} members in an image archive")
        link = member.link
        if member.kind == "symlink":
            link = _beside(member.path, member.link)
        places[member.path] = _Place(window.position, member.size, link)
    return places


def _beside(path: str, target: str) -> str:
    """The member that a symlink of old docker-save archives (`…/layer.tar -> ../…/layer.tar`) means; "" for none."""
    joined = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return "" if joined.startswith(("/", "..")) else joined


class Archive:
    """Random access to the members of an image archive, and the walk from its documents to its layers."""

    def __init__(self, file: int, places: dict[str, _Place], limits: Limits, machine: str) -> None:
        self._file, self._places, self._limits, self._machine = file, places, limits, machine

    def recipe(self) -> Recipe:
        """An OCI layout is read by its index. A manifest.json beside it must tell of the same image."""
        docker = parse_docker(self._json("manifest.json"), self._limits) if "manifest.json" in self._places else None
        if "oci-layout" not in self._places:
            if docker is None:
                raise Refused("neither manifest.json nor oci-layout in it")
            return self._docker(docker.config, docker.layers)
        layout = parse_json(self._json("oci-layout"), "oci-layout")
        version = layout.get("imageLayoutVersion") if isinstance(layout, dict) else None
        if version != "1.0.0":
            raise Refused(f"imageLayoutVersion {str(version)[:40]!r}; only '1.0.0' is known", member="oci-layout")
        return self._oci(docker.config if docker is not None else "")

    def _docker(self, config_name: str, layer_names: tuple[str, ...]) -> Recipe:
        """No media types here; the config's diff ids say what the layers must hash to."""
        config_name = self._clean(config_name)
        config = parse_config(self._json(config_name), config_name, self._machine, len(layer_names))
        layers = []
        for written, diff_id in zip(layer_names, config.diff_ids, strict=True):
            name = self._clean(written)
            place = self._place(name)
            form = format_of(os.pread(self._file, min(_HEAD, place.size), place.start))
            if form not in ("tar", "gzip", "zstd"):
                raise Refused(f"a layer that is {form or 'no tar'}", member=name)
            layers.append(Layer(name, Window(self._file, place.start, place.size), form, diff_id=diff_id))
        return Recipe("docker", tuple(layers), config)

    def _oci(self, promised_config: str) -> Recipe:
        found = choose(self._json("index.json"), "index.json", self._machine)
        if found.media in INDEX_MEDIA:
            found = choose(self._blob(found), found.path, self._machine)
        if found.media in INDEX_MEDIA:
            raise Refused("an index in an index in an index", member=found.path)
        manifest = parse_manifest(self._blob(found), found, self._limits)
        if promised_config and self._clean(promised_config) != manifest.config.path:
            raise Refused("manifest.json and index.json tell of different images")
        data = self._blob(manifest.config)
        config = parse_config(data, manifest.config.path, self._machine, len(manifest.layers))
        layers = tuple(
            Layer(layer.path, self._window(layer), LAYER_MEDIA[layer.media], layer.digest, diff_id)
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        )
        return Recipe("oci", layers, config)

    def _clean(self, name: str) -> str:
        return clean_path(os.fsencode(name), self._limits)

    def _place(self, name: str) -> _Place:
        """One link is followed, to a member that is a file."""
        place = self._places.get(name)
        if place is not None and place.link:
            place = self._places.get(place.link)
        if place is None or place.link:
            raise Refused("named by the manifest and not in the archive", member=name)
        return place

    def _json(self, name: str) -> bytes:
        place = self._place(name)
        if place.size > self._limits.json_bytes:
            raise Refused(f"a document of {place.size} bytes; at most {self._limits.json_bytes} are read", member=name)
        window = Window(self._file, place.start, place.size)
        return b"".join(iter(lambda: window.read(CHUNK), b""))

    def _window(self, described: Descriptor) -> Window:
        place = self._place(described.path)
        if place.size != described.size:
            raise Refused(f"has {place.size} bytes where {described.size} were promised", member=described.path)
        return Window(self._file, place.start, place.size)

    def _blob(self, described: Descriptor) -> bytes:
        """A document whose size and digest are as promised."""
        self._window(described)
        data = self._json(described.path)  # hashed as read: the file could change between two readings
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != described.digest:
            raise Refused("its digest is not the promised one", member=described.path)
        return data
