"""A real distribution as an image: mmdebstrap's output in a tar.zst, imported and run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from installation import Installation

pytestmark = pytest.mark.needs("tool.mmdebstrap", "loop", "overlay")


@pytest.fixture(scope="module")
def debian(site: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    archive = tmp_path_factory.mktemp("debian") / "debian.tar.zst"
    command = ["mmdebstrap", "--quiet", "--variant=essential", "--format=tar", "bookworm", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = site.cli("image", "import", "--json", "debian", str(archive)).stdout
    found = json.loads(report)
    assert found["kind"] == "rootfs" and found["files"] > 1000
    assert any("device nodes are left out" in note for note in found["notes"])
    archive.unlink()
    return site


def test_its_programs_run_as_its_users(debian: Installation) -> None:
    script = """
        set -e
        cut -d. -f1 /etc/debian_version
        perl -e 'print 6*7, "\\n"'
        id -un
        stat -c %U:%G /var/local
        dpkg-query -W -f '${Status}\\n' libc6
        echo changed > /etc/debian_version
        dpkg --verify libc-bin 2>&1 | head -3
    """
    job = debian.run_script(script, 'run_as = "root"\n[image]\nsource = "debian"\n[network]\nmode = "none"\n')
    assert debian.wait(job) == 0, debian.output(job, "--stderr")
    assert debian.output(job).splitlines()[:5] == ["12", "42", "root", "root:staff", "install ok installed"]


def test_what_one_job_wrote_the_next_does_not_see(debian: Installation) -> None:
    spec = 'run_as = "root"\n[image]\nsource = "debian"\n[network]\nmode = "none"\n'
    first = debian.run_script("echo mine > /etc/hostname; rm -rf /usr/share; ls /usr/share 2>&1; exit 0", spec)
    assert debian.wait(first) == 0
    second = debian.run_script("ls -d /usr/share; cat /etc/hostname 2>/dev/null; exit 0", spec)
    assert debian.wait(second) == 0
    assert debian.output(second).splitlines()[0] == "/usr/share" and "mine" not in debian.output(second)


def test_nothing_of_the_image_changed_on_disk(debian: Installation) -> None:
    """The upper took every write."""
    (layer,) = (Path(debian.folder) / "state/images/layers").iterdir()
    assert (layer / "etc/debian_version").read_text().startswith("12.")
    assert (layer / "usr/share").is_dir()
