"""What only trying can tell of a host: each thing that a container is made of, done once in a child and undone there.

Launcher side, for `doctor` and the launcher's start (runtime/attempt.py); the daemon never. Nothing stays: mounts are
made in mount namespaces of the child's own, links in network namespaces, groups are removed, files have no name. What
the kernel would load a module for is not tried: the caller names what may be (`Ask`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from runtime import syscalls as sc
from runtime.attempt import attempt
from runtime.outcome import Outcome
from runtime.slot import write_maps

NAMESPACES = {
    "mnt": sc.CLONE_NEWNS, "uts": sc.CLONE_NEWUTS, "ipc": sc.CLONE_NEWIPC, "pid": sc.CLONE_NEWPID,
    "net": sc.CLONE_NEWNET, "cgroup": sc.CLONE_NEWCGROUP, "time": sc.CLONE_NEWTIME, "user": sc.CLONE_NEWUSER,
}  # fmt: skip
GROUP = "jobs-doctor"  # in each hierarchy, for a moment
_PLACE = "/proc"  # surely exists; in a mount namespace of our own a tmpfs covers it
_ALLOW = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # BPF_RET | BPF_K, SECCOMP_RET_ALLOW
_LANDLOCK_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION


@dataclass(frozen=True, slots=True)
class Ask:
    """What to try beside what needs no name. Paths exist; filesystems that may hang are not among them."""

    id_base: int  # first id of the first block that jobs would get
    id_count: int
    groups: tuple[tuple[int, str], ...] = ()  # (version, folder) of hierarchies, where the product's root group goes
    idmapped: tuple[str, ...] = ()  # folders whose filesystems jobs may want to see
    layers: str = ""  # folder on the filesystem of imported images
    spool: str = ""  # folder on the filesystem of output and writable layers
    overlay: bool = True
    loop: bool = True
    more: dict[str, Callable[[], str]] = field(default_factory=dict)  # of upper layers: name → what to try


def trials(ask: Ask) -> Iterator[tuple[str, Callable[[], str]]]:
    """(name, what to try). Names are those of `Facts.tries`."""
    for kind, flag in NAMESPACES.items():
        yield f"namespace:{kind}", partial(_unshare, flag)
    yield "id-map", partial(_id_map, ask.id_base, ask.id_count)
    yield "call:clone3", _clone3
    yield "call:openat2", _openat2
    yield "call:close_range", _close_range
    yield "call:pidfd_getfd", _pidfd_getfd
    yield "call:open_tree", _open_tree
    yield "call:fsopen", _fsopen
    yield "call:mount_setattr", _mount_setattr
    yield "mount:proc", partial(_mount_fresh, "proc")
    yield "mount:sysfs", partial(_mount_fresh, "sysfs")
    yield "seccomp", _seccomp
    yield "landlock", _landlock
    if ask.overlay:
        yield "overlay:/", _overlay_host
        if ask.layers:
            yield "overlay:idmapped", partial(_overlay_idmapped, ask.layers)
    yield "idmap:tmpfs", _idmap_tmpfs
    for path in ask.idmapped:
        yield f"idmap:{path}", partial(_idmap, path)
    for version, path in ask.groups:
        yield f"group:{path}", partial(_group, version, path)
    if ask.spool:
        yield "punch-hole", partial(_punch_hole, ask.spool)
    if ask.loop:
        yield "loop", _loop
    yield from ask.more.items()


def probe(ask: Ask) -> dict[str, Outcome]:
    """Name → how it went. A thing that hangs, or that a filter kills us for, costs its own answer and no other."""
    found = {name: attempt(body) for name, body in trials(ask)}
    for _, path in ask.groups:  # where a child was killed in between
        with suppress(OSError):
            os.rmdir(f"{path}/{GROUP}-{os.getpid()}")
    return found


# ── namespaces and ids ──────────────────────────────────────────────────────────────────────────────────────────────


def _unshare(flag: int) -> str:
    """And a child born inside, where that is what makes it: pid and time."""
    sc.unshare(flag)
    if flag in (sc.CLONE_NEWPID, sc.CLONE_NEWTIME):
        _wait(_fork(lambda: None))
    return ""


def _id_map(base: int, count: int) -> str:
    os.close(_user_namespace(f"0 {base} {count}\n"))
    return ""


def _user_namespace(ids: str) -> int:
    """Descriptor of a user namespace with this map of uids and gids. Raises OSError."""
    ready, made = os.pipe2(os.O_CLOEXEC)
    held, release = os.pipe2(os.O_CLOEXEC)

    def member() -> None:
        os.close(release)
        sc.unshare(sc.CLONE_NEWUSER)
        os.write(made, b"+")
        os.read(held, 1)  # end of file

    pid = _fork(member)
    os.close(made)
    if not os.read(ready, 1):
        _wait(pid)  # raises what unshare said
    write_maps(pid, ids, ids)
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    os.close(release)
    _wait(pid)
    return fd


def _fork(body: Callable[[], None]) -> int:
    """Pid of a child that exits with the errno of `body`; it ends with us."""
    pid = os.fork()
    if pid:
        return pid
    number = 0
    try:
        sc.prctl(sc.PR_SET_PDEATHSIG, 9)
        body()
    except OSError as error:
        number = error.errno or 255
    finally:
        os._exit(number)


def _wait(pid: int) -> None:
    """Raises OSError with what the child of `_fork` met."""
    _, status = os.waitpid(pid, 0)
    number = os.waitstatus_to_exitcode(status)
    if number:
        raise OSError(number, os.strerror(number)) if number > 0 else OSError(f"killed by signal {-number}")


# ── system calls ────────────────────────────────────────────────────────────────────────────────────────────────────


def _clone3(cgroup: int = -1) -> str:
    pid, pidfd = sc.clone3(0, exit_signal=17, cgroup=cgroup)  # SIGCHLD
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    return ""


def _openat2() -> str:
    sc.openat2(sc.AT_FDCWD, "/", os.O_PATH, resolve=sc.RESOLVE_NO_MAGICLINKS)
    return ""


def _close_range() -> str:
    sc.close_range(1000, flags=sc.CLOSE_RANGE_CLOEXEC)
    return ""


def _pidfd_getfd() -> str:
    sc.pidfd_getfd(os.pidfd_open(os.getpid()), 0 if os.path.exists("/proc/self/fd/0") else 2)
    return ""


def _open_tree() -> str:
    sc.open_tree(sc.AT_FDCWD, "/")
    return ""


def _fsopen() -> str:
    _tmpfs()
    return ""


def _mount_setattr() -> str:
    sc.mount_setattr(_tmpfs(), "", sc.MOUNT_ATTR_NOSUID)
    return ""


def _tmpfs() -> int:
    """A detached mount; it goes with its descriptor."""
    fs = sc.fsopen("tmpfs")
    sc.fsconfig_create(fs)
    return sc.fsmount(fs)


def _seccomp() -> str:
    sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    sc.seccomp_set_filter(_ALLOW)
    return ""


def _landlock() -> str:
    return str(sc.landlock_create_ruleset(b"", _LANDLOCK_VERSION))


# ── mounts and filesystems ──────────────────────────────────────────────────────────────────────────────────────────


def _own_mounts() -> None:
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount("", "/", "", sc.MS_REC | sc.MS_PRIVATE)


def _mount_fresh(fstype: str) -> str:
    """EPERM in a user namespace where every procfs in sight is masked (fs/namespace.c, mount_too_revealing)."""
    _own_mounts()
    sc.mount(fstype, _PLACE, fstype, sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC)
    return ""


def _workshop() -> None:
    """Folders for an overlay, on a tmpfs that nobody else sees."""
    _own_mounts()
    sc.mount("jobs-doctor", _PLACE, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=700,size=1m")
    for name in ("lower", "upper", "work", "root"):
        os.mkdir(f"{_PLACE}/{name}")


def _overlay(lower: str) -> str:
    """As a job's root is mounted, and written to."""
    data = f"lowerdir={lower},upperdir={_PLACE}/upper,workdir={_PLACE}/work,volatile"
    sc.mount("overlay", f"{_PLACE}/root", "overlay", sc.MS_NOSUID | sc.MS_NODEV, data)
    os.mkdir(f"{_PLACE}/root/jobs-doctor")
    return ""


def _overlay_host() -> str:
    _workshop()
    return _overlay("/")


def _overlay_idmapped(folder: str) -> str:
    """Since Linux 5.19, on filesystems that can be idmapped."""
    userns = _user_namespace("0 0 1\n")
    tree = sc.open_tree(sc.AT_FDCWD, folder)
    sc.mount_setattr(tree, "", sc.MOUNT_ATTR_RDONLY, userns_fd=userns)
    _workshop()
    sc.move_mount(tree, sc.AT_FDCWD, f"{_PLACE}/lower")
    return _overlay(f"{_PLACE}/lower")


def _idmap(path: str) -> str:
    userns = _user_namespace("0 0 1\n")
    sc.mount_setattr(sc.open_tree(sc.AT_FDCWD, path), "", sc.MOUNT_ATTR_NOSUID, userns_fd=userns)
    return ""


def _idmap_tmpfs() -> str:
    userns = _user_namespace("0 0 1\n")
    sc.mount_setattr(_tmpfs(), "", sc.MOUNT_ATTR_NOSUID, userns_fd=userns)
    return ""


def _punch_hole(folder: str) -> str:
    """Output is bounded by holes punched behind what is kept. The file has no name."""
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.ftruncate(fd, 1 << 20)
    sc.fallocate(fd, sc.FALLOC_FL_PUNCH_HOLE | sc.FALLOC_FL_KEEP_SIZE, 0, 1 << 16)
    return ""


def _loop() -> str:
    """Opened only: to ask for a free device may make one."""
    os.close(os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC))
    return ""


# ── cgroups ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _group(version: int, folder: str) -> str:
    """Made, entered by a child at its birth where that is possible, and removed."""
    path = f"{folder}/{GROUP}-{os.getppid()}"
    with suppress(FileExistsError):
        os.mkdir(path)
    try:
        if version == 1:
            return ""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return _clone3(fd)
    finally:
        os.rmdir(path)


# ── for upper layers ────────────────────────────────────────────────────────────────────────────────────────────────


def in_own_network(body: Callable[[], str]) -> str:
    """In a network namespace that dies with the child."""
    sc.unshare(sc.CLONE_NEWNET)
    return body()


def load_program(program_type: int, code: bytes) -> str:
    """A BPF program, let go at once."""
    os.close(sc.bpf_load(program_type, code))
    return ""
