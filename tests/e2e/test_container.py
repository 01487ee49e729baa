"""What a user is promised of the container, seen from the command line and from inside the job."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from installation import Installation, wait_for

STRANGER = 54321  # a uid without an entry in /etc/passwd


def lines(site: Installation, script: str, toml: str = "", **options: object) -> list[str]:
    job = site.run_script(script, toml, **options)
    status = site.wait(job)
    assert status == 0, f"{site.show(job)}\n{site.output(job)}\n{site.output(job, '--stderr')}\n{site.logs()}"
    return site.output(job).splitlines()


def test_all_eight_namespaces_are_its_own(site: Installation) -> None:
    inside = dict(
        line.split() for line in lines(site, 'for n in /proc/self/ns/*; do echo "${n##*/} $(readlink $n)"; done')
    )
    for name in ("pid", "net", "ipc", "mnt", "uts", "user", "cgroup", "time"):
        assert inside[name] != os.readlink(f"/proc/self/ns/{name}")


def test_no_capability_no_new_privileges_three_descriptors(site: Installation) -> None:
    status = lines(site, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ls /proc/self/fd | tr '\\n' ' '")
    values = dict(line.split(":", 1) for line in status if ":" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(values[name], 16) == 0
    assert values["NoNewPrivs"].strip() == "1"
    assert values["Seccomp"].strip() == "2"
    assert status[-1].split()[:3] == ["0", "1", "2"]
    assert len(status[-1].split()) == 4  # and the folder that `ls` itself reads


def test_the_writable_layer_is_limited(site: Installation) -> None:
    script = "head -c 80m /dev/zero > /var/tmp/big; echo $?; stat -c %s /var/tmp/big"
    code, size = lines(site, script, '[image]\nwritable = "32MiB"\n')
    assert code == "1"
    assert 16 << 20 < int(size) < 32 << 20


def test_files_of_a_mount_belong_to_the_submitter(site: Installation, tmp_path: Path) -> None:
    shared = site.folder / "shared"
    shared.mkdir()
    os.chown(shared, STRANGER, STRANGER)
    mount = f'[[mounts]]\nsource = "{shared}"\ntarget = "/shared"\nmode = "rw"\n'
    seen = lines(
        site, "id -u; echo text > /shared/mine; stat -c '%u %g' /shared /shared/mine", mount, user=STRANGER, cwd="/"
    )
    assert seen == [str(STRANGER), f"{STRANGER} {STRANGER}", f"{STRANGER} {STRANGER}"]
    made = (shared / "mine").stat()
    assert (made.st_uid, made.st_gid) == (STRANGER, STRANGER)
    as_root = lines(
        site, "id -u; echo x > /shared/as-root", f'run_as = "root"\n{mount}', user=STRANGER, cwd="/"
    )  # root of its own namespace only
    assert as_root == ["0"]
    assert (shared / "as-root").stat().st_uid == STRANGER


def test_a_mount_is_opened_with_the_submitters_rights(site: Installation) -> None:
    secret = site.folder / "secret"
    secret.mkdir(mode=0o700)
    inside = secret / "folder"
    inside.mkdir()
    mount = f'[[mounts]]\nsource = "{inside}"\ntarget = "/s"\n'
    job = site.run_script("ls /s", mount, user=STRANGER, cwd="/")
    assert site.wait(job) != 0
    record = site.show(job)
    assert record["state"] == "failed"
    assert "Permission denied" in record["reason"]
    assert str(inside) in record["reason"]


@pytest.mark.parametrize("who", ["me", "root"])
def test_the_host_image_shows_what_a_stranger_may_read(site: Installation, who: str) -> None:
    probe = r"""
import os
for folder, names, files in os.walk("/", followlinks=False):
    own = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp")
    names[:] = [n for n in names if os.path.join(folder, n) not in own]
    for name in files:
        path = os.path.join(folder, name)
        try:
            info = os.lstat(path)
            if (info.st_mode & 0o170000) != 0o100000 or info.st_mode & 0o004:
                continue
            with open(path, "rb"):
                print(path)
        except OSError:
            pass
print("walked")
"""
    toml = f'name = "t"\nrun_as = "{who}"\ncommand = ["python3", "-c", {json.dumps(probe)}]\n'
    job = site.submit(toml, user=STRANGER, cwd="/")
    assert site.wait(job) == 0, site.output(job, "--stderr")
    assert site.output(job).splitlines() == ["walked"]


def test_control_the_same_walk_finds_secrets_for_the_hosts_root() -> None:
    assert stat.S_IMODE(os.stat("/etc/shadow").st_mode) & 0o004 == 0
    with open("/etc/shadow", "rb"):
        pass


def test_an_imported_image_runs(site: Installation, tmp_path: Path) -> None:
    busybox = "/bin/busybox"
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in ("sh", "id", "cat", "stat", "touch"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        secret = tarfile.TarInfo("etc/secret")
        secret.mode, secret.size = 0o600, 0
        tar.addfile(secret)
    name = f"busybox-{os.getpid()}"
    site.cli("image", "import", name, str(root))
    try:
        image = f'[image]\nsource = "{name}"\n'
        seen = lines(site, "cat /etc/secret && touch /etc/new && stat -c %u /bin/busybox /etc/new", image)
        assert seen == ["0", "0"]
        assert name in [each["name"] for each in json.loads(site.cli("image", "list", "--json").stdout)]
    finally:
        site.cli("image", "remove", name)


def test_exec_in_a_running_job(site: Installation) -> None:
    job = site.run_script("sleep 600")
    site.until(job, "running")
    try:
        done = site.cli(
            "exec", "--no-tty", str(job), "--", "sh", "-c", "hostname; cat; exit 7", input="typed\n", check=False
        )
        assert (done.returncode, done.stdout) == (7, f"job-{job}\ntyped\n"), done.stderr
        site.cli("pause", "--wait", str(job))
        refused = site.cli("exec", "--no-tty", str(job), "--", "true", check=False)
        assert refused.returncode == 2
        assert "frozen" in refused.stderr
    finally:
        site.cli("cancel", "--kill", str(job))
        site.until(job, "cancelled")


def test_a_published_port_reaches_the_job(site: Installation) -> None:
    server = (
        "import socket\ns = socket.create_server(('', 80))\nprint('up', flush=True)\n"
        "c, _ = s.accept()\nc.sendall(b'from the job')\nc.close()\n"
    )
    job = site.submit(
        f'name = "web"\nrun_as = "root"\ncommand = ["python3", "-c", {json.dumps(server)}]\n'
        '[network]\npublish = ["18080:80/tcp"]\n'
    )
    wait_for(lambda: site.output(job) == "up\n", 30, site.logs)
    address = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()[0]
    with socket.create_connection((address, 18080), timeout=10) as client:
        assert client.recv(100) == b"from the job"
    assert site.wait(job) == 0


def test_a_start_that_fails_says_step_path_and_reason(site: Installation) -> None:
    job = site.submit('name = "t"\ncommand = ["no-such-program"]\n')
    assert site.wait(job) in (3, 127)
    assert "no-such-program" in site.show(job)["reason"]
    assert "No such file" in site.show(job)["reason"]
    job = site.submit('name = "t"\ncommand = ["true"]\nworkdir = "/no/such/folder"\n')
    site.wait(job)
    assert "/no/such/folder" in site.show(job)["reason"]


def test_pids_limit_bites(site: Installation) -> None:
    job = site.run_script("for i in $(seq 50); do sleep 60 & done; wait", "[resources]\npids = 20\n")
    site.wait(job)
    assert "fork" in site.output(job, "--stderr")


def test_a_folder_that_cannot_be_idmapped_is_refused_with_the_alternative(site: Installation) -> None:
    parts = {name: site.folder / f"overlay-{name}" for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir()
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(parts["merged"])], check=True)
    try:
        job = site.run_script("ls /m", f'[[mounts]]\nsource = "{parts["merged"]}"\ntarget = "/m"\n')
        assert site.wait(job) == 3
        reason = site.show(job)["reason"]
        assert str(parts["merged"]) in reason
        assert "as an image" in reason
    finally:
        subprocess.run(["umount", str(parts["merged"])], check=True)
