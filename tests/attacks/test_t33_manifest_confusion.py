"""T33: one archive that two programs read as two images (GHSA-5j5w-g665-5m35). Whole imports; documents alone are in
tests/unit/runtime/test_images_manifest.py. Controls: the same layout unharmed, and a lenient reading of the harm."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builders_images import PLAIN, OciLayout, a_dir, a_file, a_tar, digest_of, docker_save, try_import

from jobs.errors import BadImage

GOOD = a_tar(a_file("etc/good"))
EVIL = a_tar(a_file("etc/evil"))
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def a_layout() -> OciLayout:
    return OciLayout([GOOD], PLAIN)


def resealed(change: Callable[[OciLayout], object]) -> bytes:
    """Digests right, content confusing."""
    layout = a_layout()
    change(layout)
    return layout.seal().tar()


def harmed(change: Callable[[OciLayout], object]) -> bytes:
    """Digests as promised before the harm."""
    layout = a_layout()
    change(layout)
    return layout.tar()


def _other_blob(layout: OciLayout) -> None:
    path = f"blobs/sha256/{layout.manifest['layers'][0]['digest'][7:]}"
    assert len(EVIL) == len(layout.files[path])
    layout.files[path] = EVIL


def _other_config(layout: OciLayout) -> None:
    path = f"blobs/sha256/{layout.manifest['config']['digest'][7:]}"
    layout.files[path] = layout.files[path].replace(b"linux", b"linuy")


def _other_manifest(layout: OciLayout) -> None:
    path = next(p for p in layout.files if b"schemaVersion" in layout.files[p] and p.startswith("blobs/"))
    layout.files[path] = layout.files[path].replace(b"schemaVersion", b"schemaversion")


def _two_manifest_documents(layout: OciLayout) -> None:
    """manifest.json for docker, index.json for everybody else."""
    config = json.dumps({**layout.config, "rootfs": {"type": "layers", "diff_ids": [digest_of(EVIL)]}}).encode()
    layout.files["evil.json"], layout.files["evil.tar"] = config, EVIL
    layout.files["manifest.json"] = json.dumps([{"Config": "evil.json", "Layers": ["evil.tar"]}]).encode()


def _key_twice(layout: OciLayout) -> None:
    """The first `manifests` is the good one, the last the evil one: JSON readers differ in which they take."""
    good = layout.files["index.json"]
    evil = json.loads(good)["manifests"]
    evil[0]["digest"] = "sha256:" + "0" * 64
    layout.files["index.json"] = good[:-1] + b', "manifests": ' + json.dumps(evil).encode() + b"}"


def _two_images(layout: OciLayout) -> None:
    (entry,) = json.loads(layout.files["index.json"])["manifests"]
    layout.index([entry, {**entry, "digest": "sha256:" + "0" * 64}])


def _index_in_index_in_index(layout: OciLayout) -> None:
    for _ in range(2):
        inner = layout.blob(layout.files["index.json"], "application/vnd.oci.image.index.v1+json")
        layout.index([inner])


def _media(media: str) -> Callable[[OciLayout], object]:
    return lambda layout: layout.manifest["layers"][0].update(mediaType=media)


CONFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "unknown layer type": (lambda: resealed(_media("application/vnd.oci.image.layer.v1.tar+brotli")), "not known"),
    "encrypted layer": (lambda: resealed(_media(f"{PLAIN}+zstd+encrypted")), "not known"),
    "foreign layer": (lambda: resealed(_media("application/vnd.oci.image.layer.nondistributable.v1.tar")), "not known"),
    "plain layer called gzip": (lambda: resealed(_media(f"{PLAIN}+gzip")), "damaged gzip"),
    "gzip layer called plain": (
        lambda: resealed(
            lambda o: o.manifest.update(layers=[o.blob(gzip.compress(GOOD), PLAIN)])
        ),
        "tar",
    ),
    "layers and manifests": (lambda: resealed(lambda o: o.manifest.update(manifests=[])), "another kind"),
    "manifest that calls itself an index": (
        lambda: resealed(lambda o: o.manifest.update(mediaType="application/vnd.oci.image.index.v1+json")),
        "media type",
    ),
    "layer with another's content": (lambda: harmed(_other_blob), "digest is not the promised one"),
    "config with other content": (lambda: harmed(_other_config), "digest is not the promised one"),
    "manifest with other content": (lambda: harmed(_other_manifest), "digest is not the promised one"),
    "diff id of another layer": (
        lambda: resealed(lambda o: o.config.update(rootfs={"type": "layers", "diff_ids": [digest_of(EVIL)]})),
        "unpacks to",
    ),
    "wrong size": (
        lambda: harmed(lambda o: o.files.update({
            p: d + b"\0" for p, d in o.files.items() if d == GOOD
        })),
        "bytes where",
    ),
    "docker and OCI documents differ": (lambda: harmed(_two_manifest_documents), "different images"),
    "a key twice": (lambda: harmed(_key_twice), "twice"),
    "two images": (lambda: harmed(_two_images), "2 images"),
    "three indexes deep": (lambda: harmed(_index_in_index_in_index), "an index in an index"),
    "two members of one name": (
        lambda: a_layout().tar()[:-1024] + a_file("index.json", b"{}") + bytes(1024),
        "two members of one name",
    ),
    "blob that is missing": (
        lambda: harmed(lambda o: o.files.pop(f"blobs/sha256/{digest_of(GOOD)[7:]}")),
        "not in the archive",
    ),
    "image archive and root filesystem": (
        lambda: a_tar(a_dir("bin/"), a_file("bin/sh")) [:-1024] + docker_save([GOOD]),
        "like a root filesystem",
    ),
    "another layout version": (
        lambda: harmed(lambda o: o.files.update({"oci-layout": b'{"imageLayoutVersion":"2.0.0"}'})),
        "imageLayoutVersion",
    ),
    "docker layer with other content": (
        lambda: docker_save([GOOD]).replace(GOOD, EVIL),
        "unpacks to",
    ),
    "docker layer outside": (
        lambda: a_tar(
            a_file("c.json", json.dumps(a_layout().config).encode()),
            a_file("manifest.json", b'[{"Config":"c.json","Layers":["../../etc/shadow"]}]'),
        ),
        "'..'",
    ),
    "xz": (lambda: b"\xfd7zXZ\0" + bytes(2000), "this is xz"),
    "squashfs (T36: never mounted)": (lambda: b"hsqs" + bytes(2000), "this is squashfs"),
    "ext4 (T36: never mounted)": (lambda: bytes(1080) + b"\x53\xef" + bytes(2000), "this is ext4"),
    "nothing": (lambda: b"", "something else"),
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "confused.tar"


@pytest.mark.parametrize("case", CONFUSED)
def test_t33_refused_by_name(source: Path, case: str) -> None:
    make, words = CONFUSED[case]
    source.write_bytes(make())
    with pytest.raises(BadImage) as caught:
        try_import(source.parent / "state", source)
    assert words in caught.value.message
    assert caught.value.message.startswith("confused.tar: ")


def test_t33_control_the_same_layout_unharmed_is_taken(source: Path) -> None:
    source.write_bytes(a_layout().tar())
    assert try_import(source.parent / "state", source).layers == (digest_of(GOOD),)


def test_t33_control_lenient_readers_differ() -> None:
    """Why a key may not come twice: Python's own reading takes the last, Go's and jq's streaming ones the first."""
    layout = a_layout()
    _key_twice(layout)
    text = layout.files["index.json"]
    last = json.loads(text)["manifests"][0]["digest"]
    first = json.loads(text, object_pairs_hook=lambda pairs: dict(reversed(pairs)))["manifests"][0]["digest"]
    assert first != last


def test_t33_a_digest_that_the_store_has_gives_nobody_its_content(source: Path) -> None:
    """A thief names a private layer's digest and brings no content: the layer is read and hashed."""
    state = source.parent / "state"
    source.write_bytes(docker_save([GOOD]))
    try_import(state, source)
    thief = source.parent / "thief.tar"
    thief.write_bytes(docker_save([GOOD]).replace(GOOD, EVIL))
    from builders_images import import_path, with_store

    with pytest.raises(BadImage, match="unpacks to"):
        with_store(state, lambda store: import_path(store, "stolen", thief))
