"""Every system call that the standard library lacks; the only file that imports ctypes. Launcher side.

Wrappers are named like their man pages, 3–8 lines each, and raise OSError(errno, text, path). What `os`, `fcntl`,
`signal`, `resource` and `termios` already have is not repeated here. libc is loaded as PyDLL: the GIL is kept, so a
child of the raw `clone3` may go on in Python while the parent has one thread and the child ends in execve or _exit.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

# mount(2), umount2(2)
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOSYMFOLLOW = 0x100
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MNT_DETACH = 0x2

# fcntl.h, linux/openat2.h
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# linux/mount.h: open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), mount_setattr(2)
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOVE_MOUNT_BENEATH = 0x200
FSOPEN_CLOEXEC = 0x1
FSMOUNT_CLOEXEC = 0x1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_PATH = 3
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

# linux/sched.h: clone3(2), unshare(2), setns(2)
CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# linux/prctl.h, linux/securebits.h
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAP_LAST_CAP = 63  # PR_CAPBSET_DROP answers EINVAL beyond what the kernel knows

# linux/falloc.h, linux/close_range.h, linux/seccomp.h, linux/keyctl.h
FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
CLOSE_RANGE_CLOEXEC = 0x4
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 0x4
KEYCTL_JOIN_SESSION_KEYRING = 1

# linux/bpf.h: bpf(2)
BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_GET_FD_BY_ID = 13
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_SKB = 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_INET_EGRESS = 1
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 0x2
BPF_F_REPLACE = 0x4

# linux/loop.h, for fcntl.ioctl
LOOP_SET_FD = 0x4C00
LOOP_CLR_FD = 0x4C01
LOOP_SET_STATUS64 = 0x4C04
LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_READ_ONLY = 0x1
LO_FLAGS_AUTOCLEAR = 0x4
LO_FLAGS_DIRECT_IO = 0x10

# linux/mempolicy.h: set_mempolicy(2)
MPOL_INTERLEAVE = 3
MPOL_F_STATIC_NODES = 1 << 15

# Numbers from 424 on are the same on every architecture; the older ones are asm/unistd_64.h and asm-generic/unistd.h.
_OLD = {
    "x86_64": {"pivot_root": 155, "set_mempolicy": 238, "keyctl": 250, "seccomp": 317, "bpf": 321},
    "aarch64": {"pivot_root": 41, "set_mempolicy": 237, "keyctl": 219, "seccomp": 277, "bpf": 280},
}
_NUMBER = {
    **_OLD.get(os.uname().machine, {}),
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438, "mount_setattr": 442,
    "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
}  # fmt: skip

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_prctl_text = _libc["prctl"]  # the same function with its second argument as text
_prctl_text.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.capset.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
            "set_tid", "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _checked(result: int, path: str = "") -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), path) if path else OSError(errno, os.strerror(errno))
    return result


def _syscall(name: str, *args: int | bytes | ctypes.Structure | None, path: str = "") -> int:
    """Integers are passed as longs (a bare int would be cut to 32 bits), structures by reference."""
    long_args = [
        ctypes.c_long(arg) if isinstance(arg, int) else ctypes.byref(arg) if isinstance(arg, ctypes.Structure) else arg
        for arg in args
    ]
    return _checked(int(_libc.syscall(ctypes.c_long(_NUMBER[name]), *long_args)), path)


def linux() -> tuple[int, int]:
    """Version of the running kernel, (6, 18)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)


# Processes and namespaces


def clone3(flags: int, *, exit_signal: int = 0, cgroup: int = -1) -> tuple[int, int]:
    """(pid, pidfd); (0, -1) in the child. `cgroup`: fd of a v2 directory to be born in (CLONE_INTO_CGROUP)."""
    pidfd = ctypes.c_int(-1)
    args = _CloneArgs(flags=flags | CLONE_PIDFD, pidfd=ctypes.addressof(pidfd), exit_signal=exit_signal)
    if cgroup >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup
    pid = _syscall("clone3", args, ctypes.sizeof(args))
    return pid, pidfd.value if pid else -1


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags))


def setns(fd: int, flags: int = 0) -> None:
    """`fd` is a namespace, or a pidfd with the namespaces to enter in `flags`."""
    _checked(_libc.setns(fd, flags))


def pidfd_getfd(pidfd: int, fd: int) -> int:
    return _syscall("pidfd_getfd", pidfd, fd, 0)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    return _checked(_libc.prctl(option, arg2, arg3, arg4, arg5))


def set_process_name(name: str) -> None:
    """At most 15 bytes are kept: PR_SET_NAME(2const)."""
    _checked(_prctl_text(PR_SET_NAME, name.encode()[:15], 0, 0, 0))


def set_mempolicy(mode: int, nodes: Iterable[int]) -> None:
    """Of the calling thread, inherited by fork and execve. `mode`: MPOL_*, with MPOL_F_* in it."""
    mask = sum(1 << node for node in set(nodes))
    words = mask.bit_length() // 64 + 1
    longs = struct.pack(f"={words}Q", *(mask >> 64 * word & (1 << 64) - 1 for word in range(words)))
    _syscall("set_mempolicy", mode, longs, 64 * words + 1)  # one more than bits: mm/mempolicy.c, get_nodes


def capset_empty() -> None:
    """Clears the effective, permitted and inheritable sets of the caller; capset(2), version 3."""
    capset(0)


def capset(mask: int) -> None:
    """Effective and permitted become `mask` (bit per capability), inheritable empty; capset(2), version 3."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _checked(_libc.capset(header, data))


def keyctl_join_session_keyring() -> None:
    """A new anonymous session keyring: the job neither sees nor shares keys with its starter."""
    _syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, 0)


def seccomp_set_filter(program: bytes) -> None:
    """Installs compiled BPF (struct sock_filter[]). Needs no_new_privs."""
    if not program or len(program) % 8:
        raise OSError(22, "seccomp program is not a whole number of 8-byte instructions")
    _syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, _SockFprog(len(program) // 8, program))


def landlock_create_ruleset(attributes: bytes, flags: int = 0) -> int:
    """A ruleset fd. With LANDLOCK_CREATE_RULESET_VERSION and no attributes: the ABI version."""
    return _syscall("landlock_create_ruleset", attributes or None, len(attributes), flags)


def landlock_add_rule(ruleset: int, rule_type: int, attributes: bytes) -> None:
    _syscall("landlock_add_rule", ruleset, rule_type, attributes, 0)


def landlock_restrict_self(ruleset: int) -> None:
    """Needs no_new_privs."""
    _syscall("landlock_restrict_self", ruleset, 0)


def sethostname(name: str) -> None:
    raw = name.encode()
    _checked(_libc.sethostname(ctypes.c_char_p(raw), ctypes.c_size_t(len(raw))))


# Files


def openat2(dir_fd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Always close-on-exec. `resolve` is RESOLVE_*; with RESOLVE_IN_ROOT `dir_fd` acts as the root."""
    how = _OpenHow(flags=flags | os.O_CLOEXEC, mode=mode, resolve=resolve)
    return _syscall("openat2", dir_fd, os.fsencode(path), how, ctypes.sizeof(how), path=path)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    _syscall("close_range", first, last, flags)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _checked(_libc.fallocate(fd, mode, offset, length))


def syncfs(fd: int) -> None:
    """Writes the whole filesystem of `fd` to its disk. May take seconds and keeps the GIL: never in the daemon."""
    _checked(_libc.syncfs(fd))


# Mounts


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    encoded = (os.fsencode(source), os.fsencode(target), fstype.encode())
    _checked(_libc.mount(*encoded, flags, os.fsencode(data) if data else None), target)


def umount2(target: str, flags: int = 0) -> None:
    _checked(_libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    _syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def open_tree(dir_fd: int, path: str, *, clone: bool = True, recursive: bool = False) -> int:
    """A detached copy of the mount at `path` (or of `dir_fd` itself when `path` is ""); move_mount puts it in place.

    The copy is private. Under systemd every mount is shared: a plain copy would be the original's peer, and what is
    mounted on it in a job would appear on the host and stay there (test_mount_propagation.py).
    """
    flags = OPEN_TREE_CLOEXEC | (OPEN_TREE_CLONE if clone else 0) | (AT_RECURSIVE if recursive else 0)
    tree = _syscall("open_tree", dir_fd, os.fsencode(path), flags | (0 if path else AT_EMPTY_PATH), path=path)
    if clone:
        try:
            mount_setattr(tree, "", 0, propagation=MS_PRIVATE, recursive=recursive)
        except OSError:
            os.close(tree)
            raise
    return tree


def move_mount(from_fd: int, to_fd: int, to_path: str) -> None:
    """Puts the detached mount `from_fd` at `to_path`; an empty `to_path` means `to_fd` itself."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if to_path else MOVE_MOUNT_T_EMPTY_PATH)
    _syscall("move_mount", from_fd, b"", to_fd, os.fsencode(to_path), flags, path=to_path)


def fsopen(fstype: str) -> int:
    return _syscall("fsopen", fstype.encode(), FSOPEN_CLOEXEC, path=fstype)


def fsconfig_set(fs_fd: int, key: str, value: str) -> None:
    _syscall("fsconfig", fs_fd, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0, path=value)


def fsconfig_set_flag(fs_fd: int, key: str) -> None:
    _syscall("fsconfig", fs_fd, FSCONFIG_SET_FLAG, key.encode(), None, 0, path=key)


def fsconfig_create(fs_fd: int, path: str = "") -> None:
    _syscall("fsconfig", fs_fd, FSCONFIG_CMD_CREATE, None, None, 0, path=path)


def fsmount(fs_fd: int, attributes: int = 0) -> int:
    """`attributes` are MOUNT_ATTR_*. The mount is detached until move_mount."""
    return _syscall("fsmount", fs_fd, FSMOUNT_CLOEXEC, attributes)


def mount_setattr(
    dir_fd: int,
    path: str,
    attributes: int,
    *,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int = -1,
    recursive: bool = False,
) -> None:
    """Sets and clears MOUNT_ATTR_*; `propagation` is MS_PRIVATE, MS_SLAVE … or 0: as it is.

    With `userns_fd` the mount gets that namespace's id map (MOUNT_ATTR_IDMAP).
    """
    attr = _MountAttr(attr_set=attributes, attr_clr=clear, propagation=propagation)
    if userns_fd >= 0:
        attr.attr_set |= MOUNT_ATTR_IDMAP
        attr.userns_fd = userns_fd
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    _syscall("mount_setattr", dir_fd, os.fsencode(path), flags, attr, ctypes.sizeof(attr), path=path)


# BPF programs of v2 cgroups


def _bpf(command: int, layout: str, *values: int, path: str = "") -> bytes:
    """Raw bpf(2): `values` packed as `layout` into union bpf_attr, whose bytes are returned as the kernel left them."""
    attr = ctypes.create_string_buffer(struct.pack(layout, *values), 128)
    result = _syscall("bpf", command, ctypes.addressof(attr), len(attr), path=path)
    return struct.pack("=i", result) + attr.raw


def bpf_load(program_type: int, program: bytes) -> int:
    """fd of a loaded program (struct bpf_insn[]); `program_type` is BPF_PROG_TYPE_*."""
    code, license_ = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"GPL")
    where = (ctypes.addressof(code), ctypes.addressof(license_))
    answer = _bpf(BPF_PROG_LOAD, "=IIQQ", program_type, len(program) // 8, *where)
    return int(struct.unpack_from("=i", answer)[0])


def bpf_attach(cgroup_fd: int, attach_type: int, program_fd: int, *, replace: int = -1) -> None:
    """The cgroup keeps the program. `replace`: fd of the program to swap out in the same step (Linux 5.6)."""
    flags = BPF_F_ALLOW_MULTI | (BPF_F_REPLACE if replace >= 0 else 0)
    _bpf(BPF_PROG_ATTACH, "=IIIII", cgroup_fd, program_fd, attach_type, flags, max(replace, 0))


def bpf_attached(cgroup_fd: int, attach_type: int) -> tuple[int, ...]:
    """Ids of the programs attached to this very cgroup, at most 16."""
    ids = (ctypes.c_uint32 * 16)()
    answer = _bpf(BPF_PROG_QUERY, "=IIIIQI", cgroup_fd, attach_type, 0, 0, ctypes.addressof(ids), len(ids))
    return tuple(ids[: struct.unpack_from("=I", answer, 4 + 24)[0]])


def bpf_program_fd(program_id: int) -> int:
    return int(struct.unpack_from("=i", _bpf(BPF_PROG_GET_FD_BY_ID, "=III", program_id, 0, 0))[0])
