"""T34: an image's config and files are data, not orders. Whole imports; jobs on such images are tested elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from builders_images import (
    OciLayout,
    a_file,
    a_symlink,
    a_tar,
    header,
    import_path,
    layer_folders,
    try_import,
    with_store,
)

from jobs.errors import BadImage
from runtime.images import imagefile
from runtime.images.manifest import parse_config
from runtime.images.store import ImageStore

BASE = a_tar(a_file("etc/passwd", b"root:x:0:0::/:/bin/sh\n"))
ORDERS: dict[str, Any] = {
    "Labels": {
        "org.jobs.command": "touch /tmp/t34-owned",
        "jobs": '{"capabilities":["SYS_ADMIN"],"host":true}',
        "run": "chroot /host",
    },
    "Volumes": {"/../../etc": {}, "/proc": {}},
    "User": "4294967296",
    "Env": ["LD_PRELOAD=/evil.so", "PATH=/evil", "JOBS_ID=1"],
    "ExposedPorts": {"22/tcp": {}},
    "OnBuild": ["RUN touch /tmp/t34-owned"],
    "Healthcheck": {"Test": ["CMD-SHELL", "touch /tmp/t34-owned"]},
    "StopSignal": "SIGKILL",
    "Shell": ["/evil"],
    "Entrypoint": ["/evil"],
}


def written(tmp_path: Path, data: bytes) -> Path:
    source = tmp_path / "image.tar"
    source.write_bytes(data)
    return source


def test_t34_labels_volumes_and_hooks_are_not_even_kept(state: Path, tmp_path: Path) -> None:
    layout = OciLayout([BASE], **ORDERS)
    layout.config["history"] = [{"created_by": "touch /tmp/t34-owned"}]
    info = try_import(state, written(tmp_path, layout.tar()))
    kept = (state / "images/names/x.json").read_text()
    for word in (
        "Label",
        "Volume",
        "org.jobs",
        "capabilities",
        "../",
        "Healthcheck",
        "OnBuild",
        "t34-owned",
        "StopSig",
    ):
        assert word not in kept
    assert set(json.loads(kept)) == {"version", *imagefile.ImageInfo.__dataclass_fields__}
    assert info.env == (("LD_PRELOAD", "/evil.so"), ("PATH", "/evil"), ("JOBS_ID", "1"))  # for the program only


def test_t34_control_the_orders_are_in_the_archive(tmp_path: Path) -> None:
    """And a reader that keeps the whole config would have them."""
    archive = OciLayout([BASE], **ORDERS)
    blob = archive.files[f"blobs/sha256/{archive.manifest['config']['digest'][7:]}"]
    assert json.loads(blob)["config"]["Labels"] == ORDERS["Labels"]
    assert parse_config(blob, "c", os.uname().machine, 1).user == "4294967296"


@pytest.mark.parametrize("user", ["4294967296", "-1", "0x0", "1000:", "٣", "root\nx", "a" * 10_000, "../../etc", ""])
def test_t34_user_is_kept_as_text_and_decides_nothing(state: Path, tmp_path: Path, user: str) -> None:
    """CVE-2024-40635: 4294967296 wrapped to root. Who a job runs as is the spec's word."""
    source = written(tmp_path, OciLayout([BASE], User=user).tar())

    async def work(store: ImageStore) -> None:
        info = await import_path(store, "x", source)
        assert info.user == user[:256]
        assert not hasattr(store.resolve("x"), "user")

    with_store(state, work)


def test_t34_control_a_32_bit_reading_makes_it_root() -> None:
    assert int("4294967296") & 0xFFFFFFFF == 0


def test_t34_passwd_as_a_link_to_a_fifo_stops_nobody(state: Path, tmp_path: Path) -> None:
    """CVE-2026-47262's kin: who opens the image's /etc/passwd waits for ever. We open no file of an image."""
    archive = a_tar(header("etc/fifo", "6"), a_symlink("etc/passwd", "fifo"), a_symlink("etc/group", "/dev/zero"))
    info = try_import(state, written(tmp_path, archive), kind="tar")
    (layer,) = layer_folders(state)
    assert os.readlink(layer / "etc/passwd") == "fifo" and not os.path.lexists(layer / "etc/fifo")
    assert any("fifo" in note for note in info.notes)


def test_t34_control_opening_such_a_passwd_would_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "passwd").symlink_to("fifo")
    with pytest.raises(OSError, match="No such device or address"):  # ENXIO: with O_WRONLY the wait is an error
        os.open(tmp_path / "passwd", os.O_WRONLY | os.O_NONBLOCK)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"Env": ["A=\0B"]}, "no text"),
        ({"Env": ["=x"]}, "NAME=value"),
        ({"Env": ["x" * 200_000 + "=1"]}, "no text"),
        ({"Cmd": [{"run": "x"}]}, "no text"),
        ({"WorkingDir": ["/"]}, "no text"),
        ({"Entrypoint": "sh -c evil"}, "not a list"),
    ],
)
def test_t34_what_no_program_could_get_is_refused(
    state: Path, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadImage, match=words):
        try_import(state, written(tmp_path, OciLayout([BASE], **config).tar()))
