"""The store's own files, and the jail's report as hostile input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.errors import BadImage
from runtime.images.imagefile import check_name, from_bytes, info_of, read_report, stack, to_bytes, unpacked

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def a_report(**more: Any) -> dict[str, Any]:
    layers = [{"diff_id": digest, "made": True, "opaque": ["d"]} for digest in (A, B)]
    config: dict[str, Any] = {"env": [["K", "v"]], "entrypoint": [], "cmd": ["sh"], "workdir": "/", "user": "1"}
    return {
        "kind": "oci", "layers": layers, "config": config, "bytes": 10, "files": 2, "left_out": {}, "names": {},
    } | more  # fmt: skip


def test_round_trip_and_one_text_per_image() -> None:
    info = info_of("x", a_report(), 1.5)
    assert info.layers == (B, A)
    assert from_bytes(to_bytes(info)) == info
    assert to_bytes(from_bytes(to_bytes(info))) == to_bytes(info)


def test_a_repeated_layer_counts_where_it_lies_highest() -> None:
    assert stack([A, B, A, C]) == (C, A, B)


def test_notes_are_for_people() -> None:
    report = a_report(left_out={"device": 4}, names={"device": ["dev/a", "dev/\x1b[31mb", "c", "d"]})
    (note,) = info_of("x", report, 0).notes
    assert note.startswith("device nodes are left out") and "4: dev/a" in note and "…" in note
    assert "\x1b" not in note


@pytest.mark.parametrize("name", ["", "host", ".x", "-x", "a/b", "..", "a b", "ä", "x" * 129, "a\n", "dir:/x", "a:b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(BadImage, match="cannot be the name"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "Debian-12_slim.1", "x" * 128, "a..b"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


def test_a_refusal_names_archive_member_and_reason_without_control_characters() -> None:
    data = json.dumps({"refused": "no", "member": "a\x1b[2J\nb", "hint": "h"}).encode()
    with pytest.raises(BadImage) as caught:
        read_report(data, "x.tar")
    assert caught.value.message.startswith("x.tar: ") and caught.value.message.endswith(": no")
    assert "\n" not in caught.value.message and "\x1b" not in caught.value.message
    assert caught.value.hint == "h"


@pytest.mark.parametrize(
    "damage",
    [
        {"layers": []},
        {"layers": None},
        {"layers": [{"diff_id": "sha256:../../x", "made": True, "opaque": []}]},
        {"layers": [{"diff_id": A}]},
        {"config": []},
        {"bytes": "many"},
        {"left_out": 3},
    ],
)
def test_a_report_of_a_broken_jail_is_no_report(damage: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        unpacked(a_report(**damage))
        info_of("x", a_report(**damage), 0)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version":9}', b'{"version":1}', b'{"version":1,"layers":[1]}'])
def test_files_of_others_are_no_image_files(data: bytes) -> None:
    with pytest.raises(ValueError):
        from_bytes(data)
