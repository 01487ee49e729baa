"""What a job finds and may do: run as a job, seen from inside and from outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from containerlab import BASE, Lab

from jobs.events import Owner
from runtime.plan import BoundMount

pytestmark = pytest.mark.needs("root", "userns", "netns", "timens", "overlay", "tool.catatonit")
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
LEFT_BLOCKED = 0x380000  # TSTP, TTIN, TTOU: catatonit blocks them for itself and forgets its child
# struct sock_filter: BPF_RET | BPF_K, SECCOMP_RET_ALLOW
ALLOW_ALL = b"\x06\0\0\0\0\0\xff\x7f"


def status(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_all_eight_namespaces_are_its_own(lab: Lab) -> None:
    inside = lab.run("readlink", *(f"/proc/self/ns/{name}" for name in NAMESPACES)).lines
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]
    assert len(inside) == 8
    assert not set(inside) & set(outside)


@pytest.mark.parametrize("run_as", ["me", "root", "1234"])
def test_no_capability_is_left(lab: Lab, run_as: str) -> None:
    found = status(lab.run("cat", "/proc/self/status", run_as=run_as, seccomp=ALLOW_ALL).stdout)
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == "2"
    assert int(found["SigIgn"], 16) == 0
    assert int(found["SigBlk"], 16) in (0, LEFT_BLOCKED)


def test_it_runs_as_the_submitter_with_all_groups(lab: Lab) -> None:
    found = status(lab.run("cat", "/proc/self/status").stdout)
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["1000"] * 4
    assert found["Groups"].split() == ["1000", "2000"]
    assert found["Umask"] == "0022"


def test_ids_above_65535_keep_their_number(lab: Lab) -> None:
    owner = Owner(200_000, 300_000, (300_000, 400_000), "carol")
    extra = {"extra_ids": ((200_000, BASE + 65536),), "extra_gids": ((300_000, BASE + 65536), (400_000, BASE + 65537))}
    assert lab.run("sh", "-c", "id -u; id -g; id -G", owner=owner, **extra).lines == [
        "200000",
        "300000",
        "300000 400000",
    ]


def test_a_submitting_root_is_root_of_its_own_namespace_only(lab: Lab) -> None:
    done = lab.run("sh", "-c", "id -u; cat /proc/self/uid_map; cat /etc/shadow", owner=Owner(0, 0, (0,), "root"))
    assert done.lines[0] == "0"
    assert done.lines[1].split() == ["0", str(BASE), "65536"]
    assert "Permission denied" in done.stderr


def test_descriptors_are_0_1_and_2(lab: Lab) -> None:
    script = "for n in $(seq 0 99); do if [ -e /proc/$$/fd/$n ]; then readlink /proc/$$/fd/$n; fi; done"
    done = lab.run("sh", "-c", script)
    assert [line.split(":")[0] for line in done.lines] == ["/dev/null", "pipe", "pipe"]


def test_the_reaper_is_pid_1_and_may_be_called_init(lab: Lab) -> None:
    done = lab.run("sh", "-c", "echo $$; tr '\\0' ' ' < /proc/1/cmdline; readlink /proc/1/exe", run_as="root")
    assert done.lines[0] == "2"
    assert done.lines[1].startswith("init -- sh -c")


def test_the_environment_is_made_from_nothing(lab: Lab) -> None:
    os.environ["LAB_SECRET"] = "x"
    try:
        done = lab.run("env", env=(("JOBS_ID", "7"),))
    finally:
        del os.environ["LAB_SECRET"]
    found = dict(line.split("=", 1) for line in done.lines)
    assert set(found) == {"PATH", "HOME", "USER", "LOGNAME", "LANG", "JOBS_ID", "JOBS_EXECUTION"}
    assert (found["HOME"], found["USER"], found["JOBS_ID"]) == ("/home/alice", "alice", "7")


@pytest.mark.parametrize("run_as", ["me", "root"])
def test_of_the_host_it_reads_what_a_stranger_may(lab: Lab, run_as: str) -> None:
    assert Path("/etc/shadow").read_bytes()  # the control: it is there, and root reads it
    done = lab.run("sh", "-c", "cat /etc/hostname && cat /etc/shadow", run_as=run_as)
    assert done.lines == [Path("/etc/hostname").read_text().strip()]
    assert "Permission denied" in done.stderr


def test_state_home_and_temporary_files_of_the_host_are_hidden(lab: Lab) -> None:
    secret = Path("/tmp") / f"lab-{os.getpid()}"
    secret.write_text("x")
    try:
        done = lab.run("sh", "-c", f"ls /root /home /tmp /var/tmp {lab.state_dir}; ls {secret}", run_as="root")
    finally:
        secret.unlink()
    assert done.lines == ["/home:", "", "/root:", "", "/tmp:", "", "/var/tmp:", "", f"{lab.state_dir}:"] or (
        "No such file" in done.stderr and "lab" not in done.stdout.replace(str(lab.state_dir), "")
    )
    assert f"cannot access '{secret}'" in done.stderr


def test_masked_and_read_only_places(lab: Lab) -> None:
    assert Path("/proc/timer_list").read_bytes()  # the control
    done = lab.run(
        "sh", "-c",
        "cat /proc/keys /proc/timer_list; ls /sys/firmware /proc/acpi; for f in /proc/sys/net/ipv4/ping_group_range"
        " /proc/sys/kernel/hostname /sys/fs/cgroup/x; do echo 1 > $f; done",
        run_as="root",
    )  # fmt: skip
    assert done.stdout.split() == ["/proc/acpi:", "/sys/firmware:"]
    assert done.stderr.count("Read-only file system") == 3


def test_every_mount_is_nosuid_and_devices_are_few(lab: Lab) -> None:
    mounts = [line.split(" - ")[0].split() for line in lab.run("cat", "/proc/self/mountinfo").lines]
    options = {mount[4]: mount[5].split(",") for mount in mounts}
    assert all("nosuid" in listed for listed in options.values())
    with_devices = {path for path, listed in options.items() if "nodev" not in listed}
    nodes = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    masks = {path for path in with_devices if path.startswith("/proc/")}  # each is /dev/null
    assert with_devices == nodes | {"/dev/pts"} | masks
    assert options["/"][0] == "rw"
    assert all("ro" in options[path] for path in ("/sys", "/proc/sys", "/run/jobs/init"))


def test_it_cannot_make_namespaces(lab: Lab) -> None:
    done = lab.run("sh", "-c", "unshare -U true; echo $?", run_as="root")
    assert done.lines == ["1"]


def test_special_files_work(lab: Lab) -> None:
    done = lab.run(
        "sh", "-c",
        "echo x > /dev/null && head -c 3 /dev/zero | wc -c && echo out > /dev/stdout && echo err > /dev/stderr"
        " && mktemp -p /dev/shm && test -p /proc/self/fd/1 && touch ~/here /tmp/here /var/tmp/here && echo done",
    )  # fmt: skip
    assert done.record.status == 0, done
    assert done.lines[0] == "3"
    assert done.lines[-1] == "done"
    assert done.stderr == "err\n"


def test_sizes_of_temporary_filesystems_are_bounded(lab: Lab) -> None:
    done = lab.run("sh", "-c", "for d in /tmp /dev/shm /run; do df -B1 --output=size $d | tail -1; done")
    assert {int(line) for line in done.lines} == {512 << 20}


def test_ping_and_low_ports_belong_to_the_owner_of_the_network_namespace(lab: Lab) -> None:
    done = lab.run("cat", "/proc/sys/net/ipv4/ping_group_range")
    assert done.stdout.split() == ["0", "65535"]


def test_without_a_network_namespace_sys_is_the_hosts_read_only(lab: Lab) -> None:
    done = lab.run("sh", "-c", "readlink /proc/self/ns/net; ls /sys/class/net; touch /sys/x", network=False)
    assert done.lines[0] == os.readlink("/proc/self/ns/net")
    assert set(done.lines[1:]) == set(os.listdir("/sys/class/net"))
    assert "Read-only file system" in done.stderr


def test_the_script_is_an_unwritable_program(lab: Lab) -> None:
    script = "#!/bin/sh\nstat -c %a $0\nexit 9\n"
    done = lab.run(script=script)
    assert (done.lines, done.record.status) == (["555"], 9)


def test_hostname_and_resolver(lab: Lab) -> None:
    done = lab.run("sh", "-c", "hostname; cat /etc/resolv.conf", resolv="nameserver 192.0.2.1\n")
    assert done.lines == ["lab", "nameserver 192.0.2.1"]
    assert "192.0.2.1" not in Path("/etc/resolv.conf").read_text()


def test_writes_land_in_the_upper_with_the_leased_ids(lab: Lab) -> None:
    upper = lab.folder / "upper-of-writes"
    upper.mkdir(mode=0o700)
    done = lab.run("sh", "-c", "echo x > /var/tmp/file", upper=str(upper))
    assert done.record.status == 0, done
    written = upper / "var-tmp" / "file"
    assert (written.read_text(), written.stat().st_uid, written.stat().st_gid) == ("x\n", BASE + 1000, BASE + 1000)


# ── mounts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def bound(lab: Lab, folder: Path, target: str, *, read_only: bool, script: str, run_as: str = "me"):  # type: ignore[no-untyped-def]
    """Runs `script` with `folder` idmapped at `target`, the way the node does."""
    outside = BASE + (1000 if run_as == "me" else 0)

    async def maps(client):  # type: ignore[no-untyped-def]
        return await client.idmap_userns(f"1000 {outside} 1\n", f"1000 {outside} 1\n")

    idmap = lab.call(maps)
    fd = os.open(folder, os.O_PATH)
    try:
        mounts = (BoundMount(2, target, read_only, 3),)
        return lab.run("sh", "-c", script, extra=(fd, idmap), mounts=mounts, run_as=run_as)
    finally:
        os.close(fd)
        os.close(idmap)


@pytest.fixture
def data(lab: Lab, request: pytest.FixtureRequest) -> Path:
    folder = lab.folder / request.node.name.replace("/", "_")
    folder.mkdir()
    os.chown(folder, 1000, 1000)
    (folder / "roots").write_text("secret")
    (folder / "roots").chmod(0o600)
    return folder


@pytest.mark.parametrize("run_as", ["me", "root"])
def test_files_in_a_bound_folder_belong_to_the_submitter_outside(lab: Lab, data: Path, run_as: str) -> None:
    done = bound(lab, data, "/data", read_only=False, script="echo x > /data/new && cat /data/roots", run_as=run_as)
    new = (data / "new").stat()
    assert (new.st_uid, new.st_gid) == (1000, 1000)
    assert "roots: Permission denied" in done.stderr  # another one's 0600 file stays another one's


def test_a_read_only_mount_is_read_only(lab: Lab, data: Path) -> None:
    done = bound(lab, data, "/data", read_only=True, script="ls /data && touch /data/new")
    assert done.lines == ["roots"]
    assert "Read-only file system" in done.stderr


def test_a_mount_point_deep_in_the_host_image_is_made(lab: Lab, data: Path) -> None:
    done = bound(lab, data, "/srv/made/for/this", read_only=False, script="touch /srv/made/for/this/new")
    assert done.record.status == 0, done
    assert not Path("/srv/made").exists()


def test_a_file_can_be_bound(lab: Lab, data: Path) -> None:
    file = data / "file"
    file.write_text("told\n")
    file.chmod(0o644)
    assert bound(lab, file, "/srv/one-file", read_only=True, script="cat /srv/one-file").lines == ["told"]


def test_a_mount_in_the_home_and_tmp_filesystems_of_the_job(lab: Lab, data: Path) -> None:
    assert bound(lab, data, "/home/alice/data", read_only=True, script="ls ~/data").lines == ["roots"]
    assert bound(lab, data, "/tmp/a/b", read_only=True, script="ls /tmp/a/b").lines == ["roots"]


def test_a_mount_over_proc_does_not_uncover_what_is_masked(lab: Lab, data: Path) -> None:
    (data / "sys").mkdir()
    (data / "sys").chmod(0o777)
    done = bound(lab, data, "/proc", read_only=False, script="touch /proc/sys/x")
    assert "Read-only file system" in done.stderr


def test_hosts_replaced_by_rename_are_seen_inside(lab: Lab) -> None:
    folder = lab.folder / "hosts"
    folder.mkdir()
    (folder / "hosts").write_text("192.0.2.1 one\n")
    gate = lab.folder / "gate"
    gate.mkdir(mode=0o755)

    async def body(client):  # type: ignore[no-untyped-def]
        from jobs.spec import JobSpec

        script = "cat /etc/hosts; while [ ! -e /gate/open ]; do sleep 0.01; done; cat /etc/hosts"
        spec = JobSpec(name="x", command=("sh", "-c", script))
        fd = os.open(gate, os.O_PATH)
        try:
            mounts = (BoundMount(2, "/gate", True),)
            async with lab.box(client, spec, (fd,), hosts_dir=str(folder), mounts=mounts) as box:
                await box.create()
                await box.go()
                await box.until_output("one")
                (folder / "new").write_text("192.0.2.2 two\n")
                (folder / "new").rename(folder / "hosts")
                (gate / "open").touch()
                return await box.ended()
        finally:
            os.close(fd)

    assert lab.call(body).lines == ["192.0.2.1 one", "192.0.2.2 two"]


# ── devices ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_requested_devices_are_there_and_no_others(lab: Lab) -> None:
    from jobs.spec import Resources

    if not stat.S_ISCHR(os.stat("/dev/kmsg").st_mode):
        pytest.fail("no /dev/kmsg to ask for")
    done = lab.run("sh", "-c", "ls /dev", resources=Resources(devices=("/dev/kmsg",)))
    assert set(done.stdout.split()) == {
        "fd", "full", "kmsg", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    }  # fmt: skip
