"""T13 (and T9, T12): an image whose /dev, /proc, /etc … is a link to a place of the host. Whole jobs on such images.

The job must fail by a named step, or get real folders of its own; nothing outside may be made, changed or shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders_images import a_dir, a_file, a_symlink, a_tar, header, layer_folders

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from installation import Installation

BUSYBOX = Path("/bin/busybox")
pytestmark = pytest.mark.needs("tool.busybox", "loop", "overlay")
PLACES = ("dev", "proc", "sys", "run", "tmp", "etc", "dev/pts", "etc/resolv.conf", "etc/hosts", "run/jobs", "mnt")


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with Installation() as running:
        yield running


@pytest.fixture
def outside(site: Installation) -> Iterator[Path]:
    """A folder of the host with one file; after the test it must be as before."""
    folder = site.folder / "outside"
    folder.mkdir(exist_ok=True)
    (folder / "resolv.conf").write_text("of the host\n")
    os.utime(folder / "resolv.conf", (0, 0))
    yield folder
    assert sorted(os.listdir(folder)) == ["resolv.conf"]
    assert (folder / "resolv.conf").read_text() == "of the host\n"
    assert (folder / "resolv.conf").stat().st_mtime == 0


def shell() -> list[bytes]:
    links = [a_symlink(f"bin/{name}", "busybox") for name in ("sh", "ls", "cat", "mount", "readlink")]
    return [a_file("bin/busybox", BUSYBOX.read_bytes(), mode=0o755), *links]


def run_on(site: Installation, name: str, member: bytes, toml: str = "") -> tuple[int, str, str]:
    archive = site.folder / f"{name}.tar"
    archive.write_bytes(a_tar(*shell(), member))
    site.cli("image", "import", "--kind", "tar", name, str(archive))
    job = site.run_script(
        "echo started; echo x > /dev/made 2>/dev/null; echo x > /tmp/made; ls -la / /dev",
        f'run_as = "root"\n[image]\nsource = "{name}"\n{toml}',
    )
    status = site.wait(job)
    return status, site.output(job), site.cli("show", str(job)).stdout


@pytest.mark.parametrize("up", ["../../../../../../..", ""], ids=["relative", "absolute"])
@pytest.mark.parametrize("place", PLACES)
def test_t13_a_link_in_the_image_leads_nowhere(site: Installation, outside: Path, place: str, up: str) -> None:
    target = f"{up}{outside}" + ("/resolv.conf" if place.startswith("etc/") else "")
    name = f"{place.replace('/', '-')}-{'r' if up else 'a'}"
    status, output, shown = run_on(site, name, a_symlink(place, target))
    # `outside` checks itself. The job ran in folders of its own, or says which step refused.
    assert (status == 0 and "started" in output) or "failed at step" in shown


@pytest.mark.parametrize("place", ["dev", "proc", "etc", "etc/resolv.conf", "tmp"])
def test_t13_a_file_where_a_folder_belongs(site: Installation, outside: Path, place: str) -> None:
    name = f"file-{place.replace('/', '-')}"
    member = a_dir(f"{place}/") if place == "etc/resolv.conf" else a_file(place, b"x")
    status, output, shown = run_on(site, name, member)
    assert (status == 0 and "started" in output) or "failed at step" in shown


def test_t9_a_mount_below_a_link_makes_nothing_on_the_host(site: Installation, outside: Path) -> None:
    """CVE-2024-45310: the target /mnt/x/y, where the image has mnt → a folder of the host."""
    source = site.folder / "source"
    source.mkdir(exist_ok=True)
    toml = f'[[mounts]]\nsource = "{source}"\ntarget = "/mnt/x/y"\nmode = "ro"\n'
    status, output, shown = run_on(site, "mnt-x", a_symlink("mnt", f"../../../../..{outside}"), toml)
    assert (status == 0 and "started" in output) or "failed at step" in shown


def test_t12_proc_is_the_kernels(site: Installation, outside: Path) -> None:
    """A fake /proc of the image is covered by a real one."""
    archive = site.folder / "proc-fake.tar"
    archive.write_bytes(a_tar(*shell(), a_dir("proc/self/"), a_file("proc/self/status", b"Name: fake\n"),
                              header("proc/x", "6")))  # fmt: skip
    site.cli("image", "import", "proc-fake", str(archive))
    job = site.run_script("cat /proc/self/status; mount", 'run_as = "root"\n[image]\nsource = "proc-fake"\n')
    assert site.wait(job) == 0
    output = site.output(job)
    assert "fake" not in output and "on /proc type proc" in output


@pytest.mark.parametrize("place", ["dev", "proc", "etc"])
def test_t13_control_a_runtime_that_makes_folders_by_path_reaches_the_host(site: Installation, place: str) -> None:
    """The same imported tree, prepared as runtimes did it before CVE-2026-41579: `mkdir -p ROOT/dev/pts`."""
    reached = site.folder / "reached"
    reached.mkdir(exist_ok=True)
    archive = site.folder / "control.tar"
    archive.write_bytes(a_tar(a_symlink(place, f"../../../../../../../../..{reached}")))
    site.cli("image", "import", "--kind", "tar", f"control-{place}", str(archive))
    layer = next(path for path in layer_folders(site.folder / "state") if (path / place).is_symlink()
                 and os.readlink(path / place).endswith(str(reached)))  # fmt: skip
    os.makedirs(f"{layer}/{place}/made-by-control-{place}")
    assert (reached / f"made-by-control-{place}").is_dir()
