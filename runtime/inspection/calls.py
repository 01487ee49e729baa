"""System calls as text: `futex(0x55d0, FUTEX_WAIT, 2)`, `read(4 pipe:[812], …)`. Pure but for what `peek` reads.

Only calls in which threads stand for long are spelled out; of others the numbers are shown as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jobs.inspection import Call, File

Peek = Callable[[int, int], bytes]  # (address, size) of the thread's memory → bytes; fewer, or none, where unreadable

MOST_POLLED = 16
MOST_PATH = 256
FUTEX_WAITS = {0: "FUTEX_WAIT", 9: "FUTEX_WAIT_BITSET", 6: "FUTEX_LOCK_PI", 13: "FUTEX_LOCK_PI2",
               11: "FUTEX_WAIT_REQUEUE_PI"}  # fmt: skip
_FUTEX_COMMAND = 0x7F  # without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME
_FLOCK = {1: "LOCK_SH", 2: "LOCK_EX", 8: "LOCK_UN"}
_FCNTL = {7: "F_SETLKW", 38: "F_OFD_SETLKW"}

# Kinds of arguments: fd, path, pointer, number, size, signed, seconds (a struct timespec), ms (signed), and lists.
_SHAPES = {
    "read": "fd pointer size", "write": "fd pointer size", "pread64": "fd pointer size number",
    "pwrite64": "fd pointer size number", "readv": "fd pointer number", "writev": "fd pointer number",
    "poll": "polled number ms", "ppoll": "polled number seconds", "select": "number pointer pointer pointer pointer",
    "pselect6": "number pointer pointer pointer seconds", "epoll_wait": "fd pointer number ms",
    "epoll_pwait": "fd pointer number ms", "epoll_pwait2": "fd pointer number seconds",
    "nanosleep": "seconds", "clock_nanosleep": "number number seconds", "pause": "",
    "wait4": "signed pointer number", "waitid": "number signed", "rt_sigtimedwait": "pointer pointer seconds",
    "rt_sigsuspend": "pointer", "accept": "fd", "accept4": "fd", "connect": "fd", "recvfrom": "fd pointer size",
    "recvmsg": "fd pointer", "recvmmsg": "fd pointer number", "sendto": "fd pointer size", "sendmsg": "fd pointer",
    "fsync": "fd", "fdatasync": "fd", "ioctl": "fd number", "fstat": "fd", "getdents64": "fd", "close": "fd",
    "open": "path number", "openat": "folder path number", "stat": "path", "newfstatat": "folder path",
    "statx": "folder path", "access": "path", "unlink": "path", "rename": "path path", "execve": "path",
    "msgrcv": "number", "msgsnd": "number", "semop": "number", "semtimedop": "number",
    "io_getevents": "pointer number", "io_uring_enter": "fd number number", "vfork": "", "sync": "",
    "splice": "fd pointer fd", "sendfile": "fd fd", "copy_file_range": "fd pointer fd", "restart_syscall": "",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Context:
    """What a thread's numbers mean. `files`: of its process, by descriptor."""

    files: Mapping[int, File]
    peek: Peek


def decode(name: str, arguments: tuple[int, ...], context: Context) -> Call:
    if name == "futex":
        command = FUTEX_WAITS.get(arguments[1] & _FUTEX_COMMAND, f"{arguments[1]:#x}")
        return Call(name, f"futex({arguments[0]:#x}, {command}, {arguments[2]})", arguments)
    if name == "flock":
        operation = _FLOCK.get(arguments[1] & ~4, f"{arguments[1]:#x}")
        return Call(name, f"flock({_file(arguments[0], context)}, {operation})", arguments)
    if name == "fcntl":
        command = _FCNTL.get(arguments[1], f"{arguments[1]}")
        return Call(name, f"fcntl({_file(arguments[0], context)}, {command})", arguments)
    shape = _SHAPES.get(name)
    if shape is None:
        return Call(name, f"{name}({', '.join(f'{value:#x}' for value in arguments)})", arguments)
    kinds = shape.split()
    texts = [_text(kind, at, arguments, context) for at, kind in enumerate(kinds)]
    return Call(name, f"{name}({', '.join(texts)})", arguments)


def waits_on_futex(call: Call) -> bool:
    return call.name == "futex" and call.arguments[1] & _FUTEX_COMMAND in FUTEX_WAITS


def mutex_owner(call: Call, peek: Peek) -> int:
    """Thread that has the pthread mutex that `call` waits for, as the job numbers it; 0 where that can't be known.

    glibc and musl differ: glibc's `struct __pthread_mutex_s` begins with lock, count and owner, and a contended lock
    is 2. A futex with priority inheritance has the owner in its own word. Whoever uses this checks that such a thread
    is there: the same words may mean something else in a futex of another kind.
    """
    if not waits_on_futex(call):
        return 0
    words = peek(call.arguments[0], 12)
    if len(words) < 12:
        return 0
    lock, _, owner = struct.unpack("=III", words)
    if call.arguments[1] & _FUTEX_COMMAND in (6, 13):
        return int(lock & 0x3FFFFFFF)
    return int(owner) if lock == 2 else 0


def polled(call: Call, peek: Peek) -> tuple[int, ...]:
    """Descriptors of a poll or ppoll."""
    if call.name not in ("poll", "ppoll"):
        return ()
    return _polled(call.arguments, peek)


def _polled(arguments: tuple[int, ...], peek: Peek) -> tuple[int, ...]:
    count = min(arguments[1], MOST_POLLED)
    words = peek(arguments[0], 8 * count)
    return tuple(fd for fd, _, _ in struct.iter_unpack("=ihh", words[: len(words) // 8 * 8]) if fd >= 0)


def _text(kind: str, at: int, arguments: tuple[int, ...], context: Context) -> str:
    value = arguments[at]
    match kind:
        case "fd":
            return _file(value, context)
        case "folder":
            return "AT_FDCWD" if _signed(value) == -100 else _file(value, context)
        case "path":
            return _path(value, context.peek)
        case "polled":
            return f"[{', '.join(_file(fd, context) for fd in _polled(arguments, context.peek))}]"
        case "seconds":
            return _seconds(value, context.peek)
        case "ms" | "signed":
            return str(_signed(value))
        case "pointer":
            return f"{value:#x}" if value else "NULL"
        case _:
            return str(value)


def _signed(value: int) -> int:
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low & 0x80000000 else low


def _file(fd: int, context: Context) -> str:
    found = context.files.get(_signed(fd))
    return f"{_signed(fd)} {found.target}" if found else str(_signed(fd))


def _path(address: int, peek: Peek) -> str:
    text, _, rest = peek(address, MOST_PATH).partition(b"\0")
    return f'"{text.decode(errors="replace")}"' if text or rest else f"{address:#x}"


def _seconds(address: int, peek: Peek) -> str:
    if not address:
        return "NULL"
    words = peek(address, 16)
    if len(words) < 16:
        return f"{address:#x}"
    whole, nano = struct.unpack("=qq", words)
    return f"{whole + nano / 1e9:g} s"
