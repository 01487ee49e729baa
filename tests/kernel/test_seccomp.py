"""The compiled allow list on the real kernel: what must be refused is, with the right errno; real programs still run.

Each probe runs twice: under the filter, and without it as the control. The control's answer differs, so it is the
filter that refuses and not this machine.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable

import pytest

from runtime import syscalls
from runtime.seccomp import default_program

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers of x86-64")

LIBC = ctypes.CDLL(None, use_errno=True)
NR = {
    "ioctl": 16, "socket": 41, "socketpair": 53, "clone": 56, "ptrace": 101, "syslog": 103, "personality": 135,
    "pivot_root": 155, "chroot": 161, "settimeofday": 164, "mount": 165, "umount2": 166, "reboot": 169,
    "init_module": 175, "quotactl": 179, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
    "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "finit_module": 313, "kexec_file_load": 320,
    "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "mount_setattr": 442,
}  # fmt: skip
X32 = 0x4000_0000


def in_child(body: Callable[[], object], *, filtered: bool) -> object:
    """What `body` returns, from a forked child, with or without the filter."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            if filtered:
                syscalls.seccomp_set_filter(default_program())
            os.write(writer, json.dumps(body()).encode())
        except BaseException as failed:
            os.write(writer, json.dumps(f"{type(failed).__name__}: {failed}").encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def call(number: int, *arguments: int) -> str:
    """The errno's name, or "ok"; the child may make what it likes, it ends at once."""
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


default_program()  # compiled before any fork

CLONE_FS = 0x200  # EINVAL together with a new user or mount namespace: the control makes no process
FD = 2**31 - 1  # no such descriptor: without the filter the answer is EBADF or EFAULT, never EPERM
REFUSED = [
    ("T17 unshare cgroup", "unshare", 0x0200_0000),
    ("T18 unshare user", "unshare", 0x1000_0000),
    ("T18 unshare net", "unshare", 0x4000_0000),
    ("unshare time", "unshare", 0x80),
    ("T18 clone with a new user namespace", "clone", 0x1000_0000 | CLONE_FS),
    ("clone with a new mount namespace", "clone", 0x0002_0000 | CLONE_FS),
    ("T30 setns", "setns", FD, 0),
    ("T17 mount", "mount", 0, 0, 0, 0, 0),
    ("umount2", "umount2", 0, 0),
    ("pivot_root", "pivot_root", 0, 0),
    ("chroot", "chroot", 0),
    ("T18 fsopen", "fsopen", 0, 0),
    ("open_tree", "open_tree", FD, 0, 0),
    ("move_mount", "move_mount", FD, 0, FD, 0, 0),
    ("mount_setattr", "mount_setattr", FD, 0, 0, 0, 0),
    ("T23 open_by_handle_at", "open_by_handle_at", FD, 0, 0),
    ("T24 keyctl", "keyctl", 0, 0, 0),
    ("T24 add_key", "add_key", 0, 0, 0, 0, 0),
    ("T24 request_key", "request_key", 0, 0, 0, 0),
    ("T25 bpf", "bpf", 0, 0, 0),
    ("T25 perf_event_open", "perf_event_open", 0, 0, 0, FD, 0),
    ("T25 userfaultfd", "userfaultfd", 0xFFFF),
    ("T25 io_uring_setup", "io_uring_setup", 1, 0),
    ("T26 kexec_file_load", "kexec_file_load", FD, FD, 0, 0, 0),
    ("T26 init_module", "init_module", 0, 0, 0),
    ("T26 finit_module", "finit_module", FD, 0, 0),
    ("T26 reboot", "reboot", 0, 0, 0, 0),
    ("T26 quotactl", "quotactl", 0xFFFF_FFFF, 0, 0, 0),
    ("T26 settimeofday", "settimeofday", 1, 0),
    ("syslog", "syslog", 99, 0, 0),
    ("T19 AF_ALG", "socket", 38, 5, 0),
    ("T19 AF_ALG with dirt above 32 bits", "socket", (1 << 32) | 38, 5, 0),
    ("T20 AF_KEY", "socket", 15, 3, 2),
    ("T20 AF_RXRPC", "socket", 33, 2, 2),
    ("T29 AF_VSOCK", "socket", 40, 1, 0),
    ("AF_PACKET", "socket", 17, 3, 0),
    ("socketpair of AF_TIPC", "socketpair", 30, 1, 0, 0),
    ("T28 TIOCSTI", "ioctl", FD, 0x5412, 0),
    ("T28 TIOCSTI with dirt above 32 bits (CVE-2019-10063)", "ioctl", FD, (1 << 32) | 0x5412, 0),
    ("T28 TIOCLINUX", "ioctl", FD, 0x541C, 0),
    ("personality READ_IMPLIES_EXEC", "personality", 0x0400_0000),
    ("T19 x32's socket", X32 + 41, 38, 5, 0),
    ("x32's uname", X32 + 63, 0),
]


@pytest.mark.parametrize("probe", REFUSED, ids=[probe[0] for probe in REFUSED])
def test_refused(probe):
    _, name, *arguments = probe
    number = NR.get(name, name)
    assert in_child(lambda: call(number, *arguments), filtered=True) == "EPERM"
    assert in_child(lambda: call(number, *arguments), filtered=False) != "EPERM", "the control was refused too"


@pytest.mark.parametrize("protocol", [6, 9, 12], ids=["xfrm", "audit", "netfilter"])
def test_netlink_beyond_routes_is_unknown(protocol):
    """The errno that programs take for "this kernel has no audit", and go on."""
    assert in_child(lambda: call(NR["socket"], 16, 3, protocol), filtered=True) == "EPROTONOSUPPORT"
    assert in_child(lambda: call(NR["socket"], 16, 3, protocol), filtered=False) == "ok"


@pytest.mark.parametrize(
    "arguments", [(1, 1, 0), (2, 1, 0), (2, 2, 17), (10, 1, 0), (16, 3, 0), (16, 3, 4), (16, 3, 15)], ids=str
)
def test_usual_sockets(arguments):
    assert in_child(lambda: call(NR["socket"], *arguments), filtered=True) == "ok"


def test_unknown_and_absent_calls_are_enosys():
    for number in (435, 134, 180, 467 + 100, 999):  # clone3, uselib, nfsservctl, two of the future
        assert in_child(lambda number=number: call(number, 0, 0), filtered=True) == "ENOSYS"


I386_SOCKET = bytes.fromhex(
    "53"  # push rbx
    "b867010000"  # mov eax, 359: i386's socket
    "bb26000000"  # mov ebx, AF_ALG
    "b905000000"  # mov ecx, SOCK_SEQPACKET
    "31d2"  # xor edx, edx
    "cd80"  # int 0x80
    "5b"  # pop rbx
    "c3"  # ret
)


def test_t19_i386_calls_are_refused():
    """AF_ALG by int 0x80 from a 64-bit program."""
    import mmap

    area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(I386_SOCKET)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(area)))
    assert in_child(function, filtered=True) == -errno.EPERM
    control = in_child(function, filtered=False)
    assert control != -errno.EPERM


def test_own_children_may_be_traced():
    def trace() -> str:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if call(NR["ptrace"], 0, 0, 0, 0) == "ok" else 1)  # PTRACE_TRACEME
        return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    assert in_child(trace, filtered=True) == "0"


PROGRAMS = {
    "threads, subprocess, sockets, timers": """
import socket, subprocess, sys, threading, time, tempfile, os, select, multiprocessing
t = threading.Thread(target=lambda: None); t.start(); t.join()
assert subprocess.run(["/bin/echo", "x"], capture_output=True).stdout == b"x\\n"
a, b = socket.socketpair(); a.send(b"1"); assert b.recv(1) == b"1"
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
e = select.epoll(); e.register(s, select.EPOLLIN)
time.sleep(0.001)
with tempfile.TemporaryFile() as f: f.write(b"x" * 100000); f.flush(); os.fsync(f.fileno())
with multiprocessing.get_context("fork").Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]
print("done")
""",
    "asyncio": "import asyncio; print(asyncio.run(asyncio.sleep(0, 'done')))",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_python_runs(name):
    program = filtered_program([sys.executable, "-c", PROGRAMS[name]])
    assert (program.returncode, program.stdout) == (0, "done\n"), program.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ["/bin/ls", "-la", "/"],
        ["/bin/sh", "-c", "echo $((1+1)) | sort | wc -l"],
        ["/bin/tar", "-cf", "/dev/null", "/etc/passwd"],
        ["/usr/bin/find", "/etc", "-maxdepth", "1", "-newer", "/etc/passwd"],
        ["/bin/gzip", "--version"],
        ["/bin/bash", "-c", "ulimit -n; kill -0 $$; exec -a other /bin/true"],
    ],
    ids=lambda argv: argv[0],
)
def test_usual_programs_run(argv):
    program = filtered_program(argv)
    assert program.returncode == 0, program.stderr


def filtered_program(argv: list[str]) -> subprocess.CompletedProcess[str]:
    def confine() -> None:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.seccomp_set_filter(default_program())

    return subprocess.run(argv, preexec_fn=confine, capture_output=True, text=True, timeout=60)
