"""The unpacker's jail: what a program inside can still do. The control is the same program without the jail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest
from builders_images import make_userns, run_helper

from runtime import landlock, syscalls
from runtime.images.store import ID_BASE

ROOT = str(Path(__file__).resolve().parents[2])

PROBE = textwrap.dedent("""
    import json, os, signal, socket, stat, sys
    sys.path.insert(0, sys.argv[1])
    from runtime import syscalls
    from runtime.images import jail
    from runtime.images.limits import Limits
    jailed, host_pid, outside = sys.argv[2] == "jailed", int(sys.argv[3]), sys.argv[4]
    if jailed:
        jail.enter(4, 5, Limits(), keep=(3,))
    else:
        os.chdir(sys.argv[5])

    def read(path):
        with open(path, "rb") as file:
            return bool(file.read(1))

    def connect():
        server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
        return bool(server)

    def fork():
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return True

    def new_userns():
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        return True

    def write(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        return True

    def setxattr():
        os.mkdir("marked")
        os.setxattr("marked", "trusted.overlay.opaque", b"y")
        return True

    attempts = {
        "read a file of the host": lambda: read("/etc/passwd"),
        "walk up": lambda: read("../../../../../../etc/passwd"),
        "write outside": lambda: write(outside),
        "see processes": lambda: read("/proc/self/status"),
        "signal a process of root": lambda: os.kill(host_pid, 0) is None,
        "network": connect,
        "fork": fork,
        "device node": lambda: os.mknod("null", 0o600 | stat.S_IFCHR, os.makedev(1, 3)) is None,
        "fifo": lambda: os.mkfifo("fifo") is None,
        "trusted attribute": setxattr,
        "become root of the host": lambda: os.setresuid(0, 0, 0) is None and read("/etc/shadow"),
        "new mount namespace": lambda: syscalls.unshare(syscalls.CLONE_NEWNS) is None,
        "mount": lambda: syscalls.mount("none", ".", "tmpfs") is None,
        "user namespace": new_userns,
    }
    done = []
    for name, attempt in attempts.items():
        try:
            if attempt():
                done.append(name)
        except (OSError, ValueError):
            pass
    made = []
    if jailed:
        for name, make in {
            "file": lambda: write("f"),
            "chown": lambda: os.chown("f", 1234, 65535) is None,
            "set modes": lambda: os.chmod("f", 0o640) is None,
            "hard link": lambda: os.link("f", "g") is None,
            "symlink": lambda: os.symlink("x", "s") is None,
            "whiteout": lambda: os.mknod("w", stat.S_IFCHR, 0) is None,
            "user attribute": lambda: os.setxattr("f", "user.a", b"1") is None,
        }.items():
            try:
                make()
                made.append(name)
            except OSError as error:
                made.append(f"{name}: {error}")
    os.write(3, json.dumps([list(attempts), done, made]).encode())
""")


async def probe(folder: Path, mode: str, outside: Path) -> tuple[list[str], list[str], list[str]]:
    """(attempts, those that succeeded, what an unpacker must be able to do and did)"""
    line = f"0 {ID_BASE} 65536\n"
    userns = await make_userns(line, line)
    mount = syscalls.open_tree(syscalls.AT_FDCWD, str(folder))
    syscalls.mount_setattr(mount, "", syscalls.MOUNT_ATTR_NODEV, userns_fd=userns)
    report = os.memfd_create("report")
    argv = [sys.executable, "-I", "-c", PROBE, ROOT, mode, str(os.getpid()), str(outside), str(folder)]
    try:  # the namespaces are for the control: what it does to them ends with it
        result = await run_helper(["unshare", "--mount", "--net", *argv], fds=(report, mount, userns))
        assert result.status == 0, result.stderr.decode()
        attempts, done, made = json.loads(os.pread(report, 1 << 16, 0))
    finally:
        for fd in (mount, userns, report):
            os.close(fd)
    return attempts, done, made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir(mode=0o755)
    return made


def test_inside_nothing_of_the_host_can_be_reached(folder: Path, tmp_path: Path) -> None:
    _, done, made = anyio.run(probe, folder, "jailed", tmp_path / "outside")
    # Its network namespace is empty and its own; Landlock takes even a socket in it, since ABI 4 (Linux 6.7).
    assert done == ([] if landlock.abi() >= 4 else ["network"])
    assert made == ["file", "chown", "set modes", "hard link", "symlink", "whiteout", "user attribute"]
    assert not (tmp_path / "outside").exists()


def test_ids_on_disk_are_those_of_the_archive(folder: Path, tmp_path: Path) -> None:
    anyio.run(probe, folder, "jailed", tmp_path / "outside")
    found = (folder / "f").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777, found.st_nlink) == (1234, 65535, 0o640, 2)
    assert (folder / "s").lstat().st_uid == 0


def test_control_the_same_program_without_the_jail_does_it_all(folder: Path, tmp_path: Path) -> None:
    attempts, done, _ = anyio.run(probe, folder, "control", tmp_path / "outside")
    assert done == attempts
    assert (tmp_path / "outside").exists()


def test_a_bare_descriptor_of_the_host_is_closed(folder: Path, tmp_path: Path) -> None:
    """The launcher may leak one; fd 6 here is a folder of the host."""
    program = textwrap.dedent("""
        import os, sys
        sys.path.insert(0, sys.argv[1])
        from runtime.images import jail
        from runtime.images.limits import Limits
        jail.enter(4, 5, Limits(), keep=(3,))
        alive = []
        for fd in range(3, 64):
            try:
                os.fstat(fd)
                alive.append(fd)
            except OSError:
                pass
        os.write(3, repr(alive).encode())
    """)

    async def run() -> str:
        line = f"0 {ID_BASE} 65536\n"
        userns = await make_userns(line, line)
        mount = syscalls.open_tree(syscalls.AT_FDCWD, str(folder))
        syscalls.mount_setattr(mount, "", 0, userns_fd=userns)
        report, leaked = os.memfd_create("report"), os.open("/", os.O_PATH)
        result = await run_helper([sys.executable, "-I", "-c", program, ROOT], fds=(report, mount, userns, leaked))
        assert result.status == 0, result.stderr.decode()
        text = os.pread(report, 1000, 0).decode()
        for fd in (userns, mount, report, leaked):
            os.close(fd)
        return text

    assert anyio.run(run) == "[3]"


def test_landlock_is_on_where_the_kernel_has_it() -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from runtime import landlock, syscalls\n"
        "syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1); print(landlock.restrict('/proc', landlock.READ_FILE))\n"
        "try: open('/etc/passwd')\n"
        "except PermissionError: print('refused')\n"
        "open('/proc/self/status')"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program, ROOT], capture_output=True, text=True, check=True)
    version, *rest = done.stdout.split()
    assert int(version) == landlock.abi()
    assert rest == (["refused"] if landlock.abi() else [])
