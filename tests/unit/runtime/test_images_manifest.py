"""Manifests: one right reading or none (T33)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from builders_images import PLAIN, a_config, digest_of

from runtime.images.limits import Limits, Refused
from runtime.images.manifest import Descriptor, choose, parse_config, parse_docker, parse_json, parse_manifest

LIMITS = Limits()
DIGEST = digest_of(b"")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
PROMISED = Descriptor(MANIFEST, DIGEST, 0)


def entry(media: str = MANIFEST, **more: Any) -> dict[str, Any]:
    return {"mediaType": media, "digest": DIGEST, "size": 1, **more}


def an_index(*entries: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries), **more}).encode()


def a_manifest(**more: Any) -> bytes:
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": entry(CONFIG), "layers": [entry(PLAIN)]}
    return json.dumps(document | more).encode()


def platform(architecture: str, system: str = "linux", **more: str) -> dict[str, Any]:
    return {"platform": {"os": system, "architecture": architecture, **more}}


def test_the_image_for_this_machine_is_chosen() -> None:
    other = "sha256:" + "1" * 64
    index = an_index({**entry(), "digest": other, **platform("arm64")}, entry(**platform("amd64")))
    assert choose(index, "index.json", "x86_64").digest == DIGEST
    assert choose(index, "index.json", "aarch64").digest == other


def test_attestations_and_variants_are_passed_over() -> None:
    attested = entry(annotations={"vnd.docker.reference.type": "attestation-manifest"}, **platform("amd64"))
    variant = {**entry(**platform("amd64", variant="v3")), "digest": "sha256:" + "3" * 64}
    assert choose(an_index(attested, variant, entry(**platform("amd64"))), "i", "x86_64").digest == DIGEST


def test_one_image_under_two_tags_is_one_image() -> None:
    tagged = [entry(annotations={"org.opencontainers.image.ref.name": name}) for name in ("a", "b")]
    assert choose(an_index(*tagged), "i", "x86_64").digest == DIGEST


def test_manifest_and_config() -> None:
    found = parse_manifest(a_manifest(), PROMISED, LIMITS)
    assert (found.config.media, found.layers) == (CONFIG, (Descriptor(PLAIN, DIGEST, 1),))
    config = a_config([b""], Env=["A=1", "B=x=y"], Cmd=["sh"], Entrypoint=None, WorkingDir="/w", User="a:b")
    parsed = parse_config(json.dumps(config).encode(), "c", "x86_64", 1)
    assert (parsed.env, parsed.cmd, parsed.entrypoint) == ((("A", "1"), ("B", "x=y")), ("sh",), ())
    assert (parsed.workdir, parsed.user, parsed.diff_ids) == ("/w", "a:b", (DIGEST,))


def test_docker_manifest() -> None:
    found = parse_docker(b'[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar"]}]', LIMITS)
    assert (found.config, found.layers) == ("c.json", ("a/layer.tar",))


def config_with(**more: Any) -> bytes:
    return json.dumps(a_config([b""]) | more).encode()


CONFUSING: dict[str, tuple[Callable[[], object], str]] = {
    "a key twice": (lambda: parse_json(b'{"a":1,"a":2}', "n"), "twice"),
    "NaN": (lambda: parse_json(b"[NaN]", "n"), "not JSON"),
    "not UTF-8": (lambda: parse_json(b'"\xff"', "n"), "not JSON"),
    "UTF-16": (lambda: parse_json('{"a":1}'.encode("utf-16"), "n"), "not JSON"),
    "deep nesting": (lambda: parse_json(b"[" * 200_000, "n"), "not JSON"),
    "index with layers": (lambda: choose(an_index(entry(), layers=[]), "i", "x86_64"), "'layers'"),
    "index that says manifest": (lambda: choose(an_index(entry(), mediaType=MANIFEST), "i", "x86_64"), "media type"),
    "index entry unknown": (lambda: choose(an_index(entry("application/zip")), "i", "x86_64"), "not known"),
    "index entry a list": (lambda: choose(an_index(entry(["x"])), "i", "x86_64"), "not known"),  # type: ignore[arg-type]
    "two images": (
        lambda: choose(an_index(entry(), {**entry(), "digest": "sha256:" + "2" * 64}), "i", "x86_64"),
        "2 images",
    ),
    "no image for us": (lambda: choose(an_index(entry(**platform("arm64"))), "i", "x86_64"), "no image for"),
    "windows": (lambda: choose(an_index(entry(**platform("amd64", "windows"))), "i", "x86_64"), "no image for"),
    "old schema": (lambda: choose(b'{"schemaVersion":1,"manifests":[]}', "i", "x86_64"), "schemaVersion"),
    "manifest with manifests": (lambda: parse_manifest(a_manifest(manifests=[]), PROMISED, LIMITS), "'manifests'"),
    "manifest with fsLayers": (lambda: parse_manifest(a_manifest(fsLayers=[]), PROMISED, LIMITS), "'fsLayers'"),
    "manifest that says index": (lambda: parse_manifest(a_manifest(mediaType=INDEX), PROMISED, LIMITS), "media type"),
    "media type a list": (lambda: parse_manifest(a_manifest(mediaType=[1]), PROMISED, LIMITS), "media type"),
    "artifact": (lambda: parse_manifest(a_manifest(artifactType="x/y"), PROMISED, LIMITS), "artifact"),
    "no layer": (lambda: parse_manifest(a_manifest(layers=[]), PROMISED, LIMITS), "0 layers"),
    "128 layers": (lambda: parse_manifest(a_manifest(layers=[entry(PLAIN)] * 128), PROMISED, LIMITS), "128 layers"),
    "foreign layer": (
        lambda: parse_manifest(
            a_manifest(layers=[entry("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]), PROMISED, LIMITS
        ),
        "not known",
    ),
    "xz layer": (lambda: parse_manifest(a_manifest(layers=[entry(PLAIN + "+xz")]), PROMISED, LIMITS), "not known"),
    "encrypted layer": (
        lambda: parse_manifest(a_manifest(layers=[entry(PLAIN + "+encrypted")]), PROMISED, LIMITS),
        "not known",
    ),
    "sha512": (
        lambda: parse_manifest(a_manifest(layers=[{**entry(PLAIN), "digest": "sha512:00"}]), PROMISED, LIMITS),
        "no sha256",
    ),
    "digest that is a path": (
        lambda: parse_manifest(a_manifest(layers=[{**entry(PLAIN), "digest": "sha256:../../x"}]), PROMISED, LIMITS),
        "no sha256",
    ),
    "size true": (
        lambda: parse_manifest(a_manifest(layers=[{**entry(PLAIN), "size": True}]), PROMISED, LIMITS),
        "no size",
    ),
    "config of a chart": (
        lambda: parse_manifest(a_manifest(config=entry("application/vnd.cncf.helm.config.v1+json")), PROMISED, LIMITS),
        "not known",
    ),
    "config for another machine": (lambda: parse_config(config_with(architecture="s390x"), "c", "x86_64", 1), "s390x"),
    "config for windows": (lambda: parse_config(config_with(os="windows"), "c", "x86_64", 1), "windows"),
    "fewer diff ids": (lambda: parse_config(config_with(), "c", "x86_64", 2), "1 diff ids for 2"),
    "env without equals": (lambda: parse_config(config_with(config={"Env": ["A"]}), "c", "x86_64", 1), "NAME=value"),
    "env with a nul": (lambda: parse_config(config_with(config={"Env": ["A=\0"]}), "c", "x86_64", 1), "no text"),
    "cmd a string": (lambda: parse_config(config_with(config={"Cmd": "sh"}), "c", "x86_64", 1), "not a list"),
    "user a number": (lambda: parse_config(config_with(config={"User": 7}), "c", "x86_64", 1), "no text"),
    "two docker images": (
        lambda: parse_docker(b'[{"Config":"a","Layers":[]},{"Config":"b","Layers":[]}]', LIMITS),
        "2 images",
    ),
    "docker layers no names": (lambda: parse_docker(b'[{"Config":"a","Layers":[1]}]', LIMITS), "names of members"),
    "docker no image": (lambda: parse_docker(b"[]", LIMITS), "not a list of images"),
}


@pytest.mark.parametrize("case", CONFUSING)
def test_refused_by_name(case: str) -> None:
    parse, words = CONFUSING[case]
    with pytest.raises(Refused) as caught:
        parse()
    assert words in caught.value.message
    assert caught.value.member  # every refusal says which document
