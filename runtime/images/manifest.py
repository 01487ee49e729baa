"""Docker-save and OCI manifests as values. Strict: what could be read two ways is refused (GHSA-5j5w-g665-5m35). Pure.

Sources: OCI image-spec 1.1 (image-layout, image-index, manifest, config), moby's image/spec v1.2. The config is data,
never orders: only env, entrypoint, cmd, workdir and user are taken, labels and volumes are not even looked at.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from runtime.images.limits import Limits, Refused

LAYER_MEDIA = {
    "application/vnd.oci.image.layer.v1.tar": "tar",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}
INDEX_MEDIA = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
MANIFEST_MEDIA = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
CONFIG_MEDIA = frozenset({"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"})
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_T = TypeVar("_T")
_TEXT_BYTES = 128 << 10  # of one string of a config; execve's own limit for one (MAX_ARG_STRLEN)


@dataclass(frozen=True, slots=True)
class Descriptor:
    media: str
    digest: str  # sha256:…
    size: int

    @property
    def path(self) -> str:
        return f"blobs/sha256/{self.digest.removeprefix('sha256:')}"


@dataclass(frozen=True, slots=True)
class Config:
    """What an image says about itself, as data. `user` is kept as written and never resolved by us."""

    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    diff_ids: tuple[str, ...] = ()  # bottom first


@dataclass(frozen=True, slots=True)
class DockerEntry:
    """One image of a docker-save archive: paths of members, layers bottom first."""

    config: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OciManifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]  # bottom first


def parse_json(data: bytes, name: str) -> Any:
    """UTF-8 JSON without duplicate keys. Raises Refused naming the document."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise Refused(f"the key {twice[0]!r} twice in one object", member=name)
        return found

    def constant(text: str) -> Any:
        raise Refused(f"{text} is not JSON", member=name)

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {type(error).__name__}", member=name) from None


def parse_docker(data: bytes, limits: Limits) -> DockerEntry:
    """`manifest.json` of docker save. Exactly one image."""
    name = "manifest.json"
    document = parse_json(data, name)
    if not isinstance(document, list) or not document:
        raise Refused("not a list of images", member=name)
    if len(document) > 1:
        raise Refused(f"{len(document)} images in one archive", member=name, hint="save one image per archive")
    entry = _object(document[0], name)
    config = entry.get("Config")
    layers = entry.get("Layers")
    if not isinstance(config, str) or not isinstance(layers, list) or not all(isinstance(x, str) for x in layers):
        raise Refused("Config and Layers must be names of members", member=name)
    return DockerEntry(config, _few(tuple(layers), name, limits))


def choose(data: bytes, name: str, machine: str) -> Descriptor:
    """The one manifest, or nested index, of an index that fits this machine. Attestations are passed over."""
    document = _object(parse_json(data, name), name)
    _is(document, INDEX_MEDIA, name, forbidden=("layers", "config", "fsLayers"))
    entries = [_object(entry, name) for entry in _list(document, "manifests", name)]
    wanted = ARCHITECTURES.get(machine, machine)
    fitting = [entry for entry in entries if _fits(entry, wanted, name)]
    if not fitting:
        has = sorted({str(_object(entry.get("platform") or {}, name).get("architecture")) for entry in entries})
        raise Refused(f"no image for linux/{wanted}; it has: {', '.join(has) or 'nothing'}", member=name)
    if len({str(entry.get("digest")) for entry in fitting}) > 1:
        raise Refused(f"{len(fitting)} images for linux/{wanted}", member=name, hint="keep one image per layout")
    return _descriptor(fitting[0], name, INDEX_MEDIA | MANIFEST_MEDIA)


def _fits(entry: dict[str, Any], wanted: str, name: str) -> bool:
    annotations = _object(entry.get("annotations") or {}, name)
    if "vnd.docker.reference.type" in annotations:
        return False
    platform = _object(entry.get("platform") or {}, name)
    if platform.get("variant") not in (None, "v8", "v1"):  # arm64/v8 and amd64/v1 are the baselines
        return False
    return bool(platform.get("os", "linux") == "linux" and platform.get("architecture", wanted) == wanted)


def parse_manifest(data: bytes, described: Descriptor, limits: Limits) -> OciManifest:
    """An image manifest; its own media type must be the one that its descriptor promised."""
    name = described.path
    document = _object(parse_json(data, name), name)
    _is(document, frozenset({described.media}), name, forbidden=("manifests", "fsLayers"))
    if document.get("artifactType"):
        raise Refused("an artifact, not an image", member=name)
    config = _descriptor(_object(document.get("config"), name), name, CONFIG_MEDIA)
    entries = [_object(entry, name) for entry in _list(document, "layers", name)]
    layers = tuple(_descriptor(entry, name, frozenset(LAYER_MEDIA)) for entry in entries)
    return OciManifest(config, _few(layers, name, limits))


def parse_config(data: bytes, name: str, machine: str, layers: int) -> Config:
    """The image config, with as many diff ids as there are layers."""
    document = _object(parse_json(data, name), name)
    system, architecture = document.get("os", "linux"), document.get("architecture", "")
    wanted = ARCHITECTURES.get(machine, machine)
    if system != "linux" or architecture not in ("", wanted):
        raise Refused(f"an image for {system!s}/{architecture!s}; this host is linux/{wanted}", member=name)
    rootfs = _object(document.get("rootfs"), name)
    diff_ids = _list(rootfs, "diff_ids", name)
    if rootfs.get("type") != "layers" or len(diff_ids) != layers:
        raise Refused(f"{len(diff_ids)} diff ids for {layers} layers", member=name)
    inner = _object(document.get("config") or {}, name)
    return Config(
        env=tuple(_variable(item, name) for item in _strings(inner, "Env", name)),
        entrypoint=_strings(inner, "Entrypoint", name),
        cmd=_strings(inner, "Cmd", name),
        workdir=_string(inner.get("WorkingDir") or "", "WorkingDir", name),
        user=_string(inner.get("User") or "", "User", name)[:256],
        diff_ids=tuple(digest(item, name) for item in diff_ids),
    )


def digest(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise Refused(f"{str(value)[:80]!r} is no sha256 digest", member=name)
    return value


def _few(values: tuple[_T, ...], name: str, limits: Limits) -> tuple[_T, ...]:
    if not 1 <= len(values) <= limits.layers:
        raise Refused(f"{len(values)} layers; an image has 1 to {limits.layers}", member=name)
    return values


def _is(document: dict[str, Any], media: frozenset[str], name: str, *, forbidden: tuple[str, ...]) -> None:
    """No document may be read as two kinds: the fields of another kind are refused with the media type."""
    if document.get("schemaVersion") != 2:
        raise Refused(f"schemaVersion {document.get('schemaVersion')!r}; only 2 is known", member=name)
    own = document.get("mediaType")
    if own is not None and (not isinstance(own, str) or own not in media):
        raise Refused(f"the media type {str(own)[:120]!r} where {' or '.join(sorted(media))} was promised", member=name)
    both = [key for key in forbidden if key in document]
    if both:
        raise Refused(f"the field {both[0]!r} of another kind of document", member=name)


def _descriptor(entry: dict[str, Any], name: str, media: frozenset[str]) -> Descriptor:
    own = entry.get("mediaType")
    if not isinstance(own, str) or own not in media:
        raise Refused(f"the media type {str(own)[:120]!r} is not known here", member=name)
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Refused(f"the size {str(size)[:40]!r} is no size", member=name)
    return Descriptor(own, digest(entry.get("digest"), name), size)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("a JSON object is missing", member=name)
    return value


def _list(document: dict[str, Any], key: str, name: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise Refused(f"{key!r} is not a list", member=name)
    return value


def _strings(document: dict[str, Any], key: str, name: str) -> tuple[str, ...]:
    value = document.get(key)
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, list):
        raise Refused(f"{key} is not a list of strings", member=name)
    return tuple(_string(item, key, name) for item in value)


def _string(value: Any, key: str, name: str) -> str:
    if not isinstance(value, str) or "\0" in value or len(value) > _TEXT_BYTES:
        raise Refused(f"{key} has a value that is no text for a program", member=name)
    return value


def _variable(item: str, name: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not key or not equals:
        raise Refused(f"Env has {item[:80]!r}, which is not NAME=value", member=name)
    return key, value
