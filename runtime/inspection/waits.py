"""Who waits for whom, as far as the kernel and the words of a mutex tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jobs.inspection import File, Process, Thread, Wait

_READS = {"read", "readv", "pread64", "recvfrom", "recvmsg", "recvmmsg", "accept", "accept4", "splice"}
_WRITES = {"write", "writev", "pwrite64", "sendto", "sendmsg", "sendfile"}
_SLEEPS = {"nanosleep": "sleeps", "clock_nanosleep": "sleeps", "pause": "waits for a signal",
           "rt_sigsuspend": "waits for a signal", "rt_sigtimedwait": "waits for a signal"}  # fmt: skip


def waits_of(processes: Sequence[Process]) -> tuple[Wait, ...]:
    """One for each thread that stands in a call whose meaning is known."""
    ends = _ends(processes)
    found = (_wait(process, thread, processes, ends) for process in processes for thread in process.threads)
    return tuple(wait for wait in found if wait is not None)


def circles(waits: Iterable[Wait], processes: Sequence[Process]) -> tuple[tuple[int, ...], ...]:
    """Threads that wait for each other in a circle, each circle once. A process that is waited for counts when it has
    one thread: of several, another one may go on. Nor is a circle claimed where any one of several could end a wait.
    """
    alone = {process.pid: process.threads[0].tid for process in processes if len(process.threads) == 1}
    following: dict[int, int] = {}
    for wait in waits:
        holders = [*wait.threads, *wait.processes]
        if len(holders) == 1 and (holder := wait.threads[0] if wait.threads else alone.get(holders[0])):
            following[wait.tid] = holder
    found: list[tuple[int, ...]] = []
    done: set[int] = set()
    for start in sorted(following):
        path: list[int] = []
        here = start
        while here in following and here not in done:
            done.add(here)
            path.append(here)
            here = following[here]
        if here in path:
            found.append(tuple(path[path.index(here) :]))
    return tuple(found)


_Ends = dict[str, dict[str, set[int]]]  # pipe → "r" or "w" → processes that have that end


def _ends(processes: Sequence[Process]) -> _Ends:
    found: _Ends = {}
    for process in processes:
        for file in process.files:
            if file.target.startswith("pipe:"):
                sides = found.setdefault(file.target, {"r": set(), "w": set()})
                for side in file.mode:
                    sides[side].add(process.pid)
    return found


def _wait(process: Process, thread: Thread, processes: Sequence[Process], ends: _Ends) -> Wait | None:
    call = thread.call
    if call is None:
        return None
    if thread.mutex_owner:
        return Wait(thread.tid, f"a mutex that thread {thread.mutex_owner} holds", threads=(thread.mutex_owner,))
    if call.name == "futex":
        return Wait(thread.tid, "a lock, a condition or another thread's end (futex); its holder is not known")
    if call.name in _SLEEPS:
        return Wait(thread.tid, f"time: it {_SLEEPS[call.name]}" if "sleep" in call.name else "a signal")
    if call.name in ("wait4", "waitid"):
        return _child(process, thread, processes)
    if call.name in ("flock", "fcntl"):
        return _lock(process, thread, processes)
    if call.name in _READS | _WRITES:
        file = _file_of(process, thread)
        return _file(process, thread, file, ends, processes, reads=call.name in _READS) if file else None
    if call.name in ("poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2"):
        return Wait(thread.tid, f"something to happen on its descriptors: {call.text}")
    return None


def _lock(process: Process, thread: Thread, processes: Sequence[Process]) -> Wait | None:
    """A frozen thread is not in the kernel's list of those who wait: so whoever has a lock on the same file."""
    file = _file_of(process, thread)
    if file is None or thread.call is None or (thread.call.name == "fcntl" and "SETLKW" not in thread.call.text):
        return None
    holders = tuple(
        each.pid
        for each in processes
        if each is not process and any(lock.path == file.target and not lock.waiting for lock in each.locks)
    )
    who = f"process {', '.join(map(str, holders))}" if holders else "a process outside the job"
    return Wait(thread.tid, f"the lock on {file.target} that {who} has", processes=holders)


def _file_of(process: Process, thread: Thread) -> File | None:
    """The descriptor that its call names first."""
    assert thread.call is not None
    fd = thread.call.arguments[0] & 0xFFFFFFFF
    return next((file for file in process.files if file.fd == fd), None)


def _child(process: Process, thread: Thread, processes: Sequence[Process]) -> Wait:
    assert thread.call is not None
    children = tuple(each.pid for each in processes if each.parent == process.pid)
    wanted = thread.call.arguments[0 if thread.call.name == "wait4" else 1] & 0xFFFFFFFF
    if wanted in children:
        children = (wanted,)
    if not children:
        return Wait(thread.tid, "a child to end, and has none")
    return Wait(thread.tid, f"process {', '.join(map(str, children))} to end", processes=children)


def _file(
    process: Process, thread: Thread, file: File, ends: _Ends, processes: Sequence[Process], *, reads: bool
) -> Wait:
    if file.target in ends:
        side, verb, want = ("w", "writes to", "data") if reads else ("r", "reads from", "room")
        others = sorted(ends[file.target][side] - {process.pid}) or sorted(ends[file.target][side])
        if not others:
            return Wait(thread.tid, f"{want} in {file.target}, whose other end is outside the job")
        names = ", ".join(map(str, others))
        return Wait(thread.tid, f"{want} in {file.target}, that process {names} {verb}", processes=tuple(others))
    if file.socket is not None:
        return _socket(process, thread, file, processes, reads=reads)
    if file.target == "anon_inode:[signalfd]":
        return Wait(thread.tid, "a signal")
    return Wait(thread.tid, f"{'data from' if reads else 'room in'} {file.target}")


def _socket(process: Process, thread: Thread, file: File, processes: Sequence[Process], *, reads: bool) -> Wait:
    socket = file.socket
    assert socket is not None
    if socket.state == "listening":
        return Wait(thread.tid, f"a connection to {socket.local}")
    others = tuple(sorted({
        each.pid
        for each in processes
        for other in each.files
        if socket.peer and other.socket is not None
        and (other.socket.local, other.socket.peer) == (socket.peer, socket.local)
    }))  # fmt: skip
    what = f"{'data from' if reads else 'room to send to'} {socket.peer or socket.local or 'its peer'} ({socket.kind})"
    if others:
        return Wait(thread.tid, f"{what}, process {', '.join(map(str, others))}", processes=others)
    more = f"; {socket.send_queue} bytes of its own are not taken yet" if socket.send_queue else ""
    return Wait(thread.tid, f"{what}{', outside the job' if socket.peer else ''}{more}")
