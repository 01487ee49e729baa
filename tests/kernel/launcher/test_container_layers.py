"""Layered images: who owns what inside, where writes land, and the way of kernels before 6.7 to mount them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from containerlab import BASE, Finished, Lab

from jobs.errors import StepFailed
from runtime.plan import ImageRoot

pytestmark = pytest.mark.needs("root", "userns", "netns", "timens", "overlay", "tool.catatonit", "tool.busybox")
OLD_KERNEL = "from runtime import syscalls; syscalls.linux = lambda: (6, 1)"  # before `lowerdir+`


@pytest.fixture(scope="module", params=["", OLD_KERNEL], ids=["as-this-kernel", "as-before-6.7"])
def layered(request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = Lab()
    try:
        lab.start(prelude=request.param)
        base, top = lab.folder / "base", lab.folder / "top"
        for folder in (base / "bin", base / "etc", top / "etc"):
            folder.mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", base / "bin/busybox")
        for name in ("sh", "cat", "id", "ls", "stat", "mkdir", "touch", "rm"):
            (base / "bin" / name).symlink_to("busybox")
        (base / "etc/below").write_text("base\n")
        (base / "etc/hidden").write_text("base\n")
        (top / "etc/below").write_text("top\n")
        os.mknod(top / "etc/hidden", 0o020000, 0)  # a whiteout: overlayfs.rst, "whiteouts and opaque directories"
        (top / "etc/private").write_text("of root\n")
        (top / "etc/private").chmod(0o600)
        yield lab
    finally:
        lab.close()


def run(lab: Lab, script: str, *, run_as: str = "root", idmapped: bool = True, upper: str = "") -> Finished:
    image = ImageRoot("layers", (f"{lab.folder}/top", f"{lab.folder}/base"), idmapped)
    return lab.run("/bin/sh", "-c", script, image=image, run_as=run_as, upper=upper)


def test_the_upper_layer_wins_and_whiteouts_hide(layered: Lab) -> None:
    assert run(layered, "cat /etc/below; ls /etc").lines == ["top", "below", "private"]


def test_root_inside_owns_the_image_and_others_do_not(layered: Lab) -> None:
    assert run(layered, "stat -c %u:%g / /etc /etc/private; cat /etc/private").lines == ["0:0"] * 3 + ["of root"]
    assert "Permission denied" in run(layered, "cat /etc/private", run_as="me").stderr


def test_not_idmapped_it_is_read_as_by_a_stranger(layered: Lab) -> None:
    done = run(layered, "cat /etc/below; cat /etc/private", idmapped=False)
    assert done.lines == ["top"]
    assert "Permission denied" in done.stderr


def test_writes_land_in_the_upper_and_the_layers_stay_as_they_are(layered: Lab) -> None:
    upper = layered.folder / f"upper-{layered._number}"
    upper.mkdir(mode=0o700)
    done = run(
        layered, "echo new > /etc/new && rm -r /etc && mkdir /etc && touch /etc/again && ls /etc", upper=str(upper)
    )
    assert (done.lines, done.stderr) == (["again"], "")
    assert (upper / "upper/etc/again").stat().st_uid == BASE
    assert (layered.folder / "base/etc/below").read_text() == "base\n"


def test_the_users_home_is_made(layered: Lab) -> None:
    assert run(layered, "cd && touch x && stat -c %u:%a .", run_as="me").lines == ["1000:700"]


# ── images that lay traps ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["proc", "sys", "dev"])
def test_a_link_where_the_kernels_filesystems_belong(layered: Lab, place: str) -> None:
    """CVE-2019-16884, CVE-2026-41579: nothing may be mounted, or made, where it leads."""
    trap, outside = layered.folder / f"trap-{place}", layered.folder / f"outside-{place}"
    trap.mkdir(exist_ok=True)
    outside.mkdir(exist_ok=True)
    (trap / place).unlink(missing_ok=True)
    (trap / place).symlink_to("../../../../../../../../.." + str(outside))
    image = ImageRoot("layers", (str(trap), f"{layered.folder}/base"), True)
    with pytest.raises(StepFailed) as told:
        layered.run("/bin/sh", "-c", "true", image=image)
    assert told.value.step in ("mount-point", f"mount-{place}", "mount-sysfs", "mount-tmpfs")
    assert os.listdir(outside) == []


def test_a_mount_point_through_a_link_stays_in_the_root(layered: Lab) -> None:
    """CVE-2024-45310: no empty folders appear on the host."""
    from runtime.plan import BoundMount

    trap, outside = layered.folder / "trap-mnt", layered.folder / "outside-mnt"
    trap.mkdir(exist_ok=True)
    outside.mkdir(exist_ok=True)
    outside.chmod(0o777)
    if not (trap / "mnt").is_symlink():
        (trap / "mnt").symlink_to(outside)
    image = ImageRoot("layers", (str(trap), f"{layered.folder}/base"), True)
    fd = os.open("/usr", os.O_PATH)
    with pytest.raises(StepFailed):  # the link leads nowhere inside
        layered.run("/bin/sh", "-c", "true", image=image, extra=(fd,), mounts=(BoundMount(2, "/mnt/made"),))
    os.close(fd)
    assert os.listdir(outside) == []


def test_links_at_the_resolvers_files_are_replaced_not_followed(layered: Lab) -> None:
    trap, outside = layered.folder / "trap-etc", Path("/var/tmp") / f"lab-resolv-{os.getpid()}"
    (trap / "etc").mkdir(parents=True, exist_ok=True)
    outside.write_text("of the host\n")
    (trap / "etc/resolv.conf").unlink(missing_ok=True)
    (trap / "etc/resolv.conf").symlink_to(outside)
    image = ImageRoot("layers", (str(trap), f"{layered.folder}/base"), True)
    try:
        done = layered.run("/bin/sh", "-c", "cat /etc/resolv.conf", image=image, resolv="nameserver 192.0.2.9\n")
        assert done.lines == ["nameserver 192.0.2.9"]
        assert outside.read_text() == "of the host\n"
    finally:
        outside.unlink()
