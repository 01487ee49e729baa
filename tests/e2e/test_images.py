"""Images through the CLI: imported, listed, run, limited, held, removed; bad ones change nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders_images import OciLayout, a_dir, a_file, a_symlink, a_tar, docker_save
from installation import Installation, wait_for

BUSYBOX = Path("/bin/busybox")
PROGRAMS = ("sh", "cat", "dd", "id", "ls", "sleep", "stat")
NO_NETWORK = '[network]\nmode = "none"\n'
pytestmark = pytest.mark.needs("tool.busybox", "loop", "overlay")


def busybox_layer() -> bytes:
    links = [a_symlink(f"bin/{name}", "busybox") for name in PROGRAMS]
    return a_tar(a_file("bin/busybox", BUSYBOX.read_bytes(), mode=0o755), *links, a_file("etc/gone"))


@pytest.fixture(scope="module")
def images(site: Installation) -> Iterator[Installation]:
    """`box`: two OCI layers."""
    top = a_tar(a_file("etc/.wh.gone"), a_file("etc/kept", b"kept\n"), a_dir("root/", mode=0o700))
    archive = site.folder / "box.tar"
    archive.write_bytes(OciLayout([busybox_layer(), top], Env=["FROM_IMAGE=yes"], WorkingDir="/etc").tar())
    site.cli("image", "import", "box", str(archive))
    yield site
    site.cli("image", "remove", "box")
    assert list((site.folder / "state/images/layers").iterdir()) == []


def test_a_job_on_it(images: Installation) -> None:
    job = images.run_script(
        "pwd; ls; echo $FROM_IMAGE; id -u", f'run_as = "root"\n[image]\nsource = "box"\n{NO_NETWORK}'
    )
    assert images.wait(job) == 0
    lines = images.output(job).splitlines()
    assert lines[0] == "/etc" and lines[-2:] == ["yes", "0"]
    assert "kept" in lines and "gone" not in lines


def test_writable_bites(images: Installation) -> None:
    toml = f'run_as = "root"\n[image]\nsource = "box"\nwritable = "8MiB"\n{NO_NETWORK}'
    job = images.run_script("dd if=/dev/zero of=/big bs=65536 count=1000", toml)
    assert images.wait(job) == 1
    assert "No space left on device" in images.output(job, "--stderr")
    control = images.run_script("dd if=/dev/zero of=/big bs=65536 count=1000", toml.replace("8MiB", "128MiB"))
    assert images.wait(control) == 0


def test_a_folder_with_what_is_left_out(images: Installation, tmp_path: Path) -> None:
    """A folder with device nodes and set-id programs: told in notes, and the job runs."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/sh").write_bytes(BUSYBOX.read_bytes())
    (tree / "bin/sh").chmod(0o4755)
    subprocess.run(["mknod", tree / "null", "c", "1", "3"], check=True)
    done = images.cli("image", "import", "tree", str(tree))
    assert "device nodes are left out" in done.stderr and "set-user-id" in done.stderr
    job = images.run_script("echo hello", f'run_as = "root"\n[image]\nsource = "tree"\n{NO_NETWORK}')
    assert images.wait(job) == 0
    assert images.output(job) == "hello\n"
    images.cli("image", "remove", "tree")


def test_an_image_in_use_stays_and_goes_afterwards(images: Installation, tmp_path: Path) -> None:
    archive = tmp_path / "d.tar"
    archive.write_bytes(docker_save([busybox_layer()]))
    images.cli("image", "import", "used", str(archive))
    job = images.run_script("sleep 600", f'[image]\nsource = "used"\n{NO_NETWORK}')
    images.until(job, "running")
    refused = images.cli("image", "remove", "used", check=False)
    assert refused.returncode == 2 and "running job" in refused.stderr
    images.kill_daemon()
    images.start_daemon()
    images.wait_ready()
    assert images.cli("image", "remove", "used", check=False).returncode == 2  # the next daemon knows it too
    images.cli("cancel", "--kill", str(job))
    images.wait(job)
    images.until(job, "cancelled")
    # the hold ends with the clean-up, a moment after the final state
    wait_for(lambda: images.cli("image", "remove", "used", check=False).returncode == 0, 30, images.logs)


BAD = {
    "not an archive": (b"hello", "this is something else"),
    "a way out": (a_tar(a_file("../../etc/x")), "'..'"),
    "cut off": (a_tar(a_file("x"))[:600], "middle of a header"),
    "wrong content": (docker_save([a_tar(a_file("aa"))]).replace(b"aa", b"bb", 1), ""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_archives_are_the_users_error(images: Installation, tmp_path: Path, case: str) -> None:
    data, words = BAD[case]
    archive = tmp_path / "bad.tar"
    archive.write_bytes(data)
    done = images.cli("image", "import", "bad", str(archive), check=False)
    assert done.returncode == 2
    assert words in done.stderr and "bad.tar" in done.stderr
    assert "bad" not in images.cli("image", "list").stdout.split()


@pytest.mark.parametrize("arguments", [("host", "x.tar"), ("../x", "x.tar"), ("ok", "/no/such/file")])
def test_bad_arguments(images: Installation, arguments: tuple[str, str]) -> None:
    assert images.cli("image", "import", *arguments, check=False).returncode == 2
