"""Files of /proc as values, calls as text, and who waits for whom."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.inspection import Call, File, Lock, Process, Region, Snapshot, Socket, Thread, Wait, from_json
from runtime.inspection import calls, procfs, python
from runtime.inspection.waits import circles, waits_of


def peek_of(memory: Mapping[int, bytes]) -> Callable[[int, int], bytes]:
    return lambda address, size: memory.get(address, b"")[:size]


CONTEXT = calls.Context(
    {3: File(3, "pipe:[7]", "r"), 4: File(4, "/data/a b.txt", "rw", 10)},
    peek_of({
        0x1000: b"/etc/hosts\0rest", 0x2000: struct.pack("=qq", 1, 500_000_000),
        0x3000: struct.pack("=ihhihh", 3, 1, 0, 9, 1, 0),
    }),
)  # fmt: skip


# ── files of /proc ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_may_hold_brackets_and_blanks() -> None:
    rest = " ".join(["S", "12", *["0"] * 9, "30", "12", *["0"] * 23, "5", *["0"] * 13])
    assert procfs.stat(f"42 (a (b) c) {rest}\n") == procfs.Stat("a (b) c", "S", 12, 42, 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("running\n", None),
        ("", None),
        ("-1 0x7ffe 0x55d0\n", procfs.RawCall(None, (), 0x7FFE, 0x55D0)),
        ("0 0x3 0x10 0x20 0x0 0x0 0x0 0x7ffe 0x55d0", procfs.RawCall(0, (3, 16, 32, 0, 0, 0), 0x7FFE, 0x55D0)),
    ],
)
def test_the_call_of_a_thread(text: str, expected: procfs.RawCall | None) -> None:
    assert procfs.syscall(text) == expected


def test_descriptors() -> None:
    assert procfs.fdinfo("pos:\t17\nflags:\t0100002\nmnt_id:\t9\n") == (17, "rw")
    assert procfs.fdinfo("pos:\t0\nflags:\t0100001\n") == (0, "w")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0100007F:1F90", "127.0.0.1:8080"),
        ("00000000000000000000000001000000:0016", "[::1]:22"),
        ("B80D01200000000000000000010000A0:01BB", "[2001:db8::a000:1]:443"),
        ("00000000000000000000000000000000:0000", "[::]:0"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert procfs.address(text) == expected


def test_sockets() -> None:
    text = "  sl  local_address …\n   0: 0100007F:1F90 0200007F:C350 01 0000000A:00000003 00:0 0 1000 0 77 1 0\n"
    assert procfs.inet_sockets(text, "tcp") == {
        77: Socket("tcp", "127.0.0.1:8080", "127.0.0.2:50000", "established", 3, 10)
    }
    text = "Num RefCount …\nffff: 00000002 00000000 00010000 0001 01 99 /run/a b.sock\nffff: 3 0 0 0001 03 98\n"
    assert procfs.unix_sockets(text) == {
        99: Socket("unix", "/run/a b.sock", state="listening"), 98: Socket("unix", "", state="connected")
    }  # fmt: skip


def test_who_waits_for_a_lock_stands_behind_who_holds_it() -> None:
    text = "1: POSIX  ADVISORY  WRITE 10 08:02:55 0 EOF\n1: -> POSIX  ADVISORY  WRITE 11 08:02:55 0 EOF\n"
    text += "2: FLOCK  ADVISORY  READ 12 00:1a:9 0 EOF\n3: OFDLCK ADVISORY  WRITE -1 00:1a:9 0 0\n"
    text += "4: DELEG ACTIVE READ 1 ?\n"
    assert procfs.locks(text) == [
        procfs.RawLock(10, "POSIX", "WRITE", (8, 2, 55), False),
        procfs.RawLock(11, "POSIX", "WRITE", (8, 2, 55), True),
        procfs.RawLock(12, "FLOCK", "READ", (0, 26, 9), False),
        procfs.RawLock(-1, "OFDLCK", "WRITE", (0, 26, 9), False),
    ]


def test_memory_by_node() -> None:
    text = (
        "55d0 default file=/bin/a\\040b mapped=3 N0=2 N1=1 kernelpagesize_kB=4\n55e0 default file=/bin/a\\040b N0=1\n"
        "7f00 bind:1 anon=4 dirty=4 N1=4 kernelpagesize_kB=2048\n7f10 default heap anon=1 N0=1 kernelpagesize_kB=4\n"
        "7f20 default\n"
    )
    found = {region.name: (region.resident, region.by_node) for region in procfs.numa_maps(text)}
    assert found == {
        "[anonymous]": (8 << 20, {1: 8 << 20}), "/bin/a b": (16384, {0: 12288, 1: 4096}), "[heap]": (4096, {0: 4096}),
    }  # fmt: skip


def test_the_place_of_an_address() -> None:
    mappings = procfs.maps("1000-2000 r-xp 00000400 08:02 5    /usr/lib/a b.so\n3000-4000 rw-p 00000000 00:00 0\n")
    assert procfs.place_of(0x1010, mappings) == "/usr/lib/a b.so+0x410"
    assert procfs.place_of(0x3001, mappings) == "[anonymous]+0x1"
    assert procfs.place_of(0x2000, mappings) == ""


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("read", (3, 0x5000, 4096), "read(3 pipe:[7], 0x5000, 4096)"),
        ("write", (9, 0, 1), "write(9, NULL, 1)"),
        ("openat", (0xFFFFFF9C, 0x1000, 0), 'openat(AT_FDCWD, "/etc/hosts", 0)'),
        ("openat", (4, 0x9000, 0), "openat(4 /data/a b.txt, 0x9000, 0)"),
        ("nanosleep", (0x2000,), "nanosleep(1.5 s)"),
        ("poll", (0x3000, 2, 0xFFFFFFFF), "poll([3 pipe:[7], 9], 2, -1)"),
        ("wait4", (0xFFFFFFFF, 0, 0), "wait4(-1, NULL, 0)"),
        ("futex", (0x55D0, 0x80 | 0, 2), "futex(0x55d0, FUTEX_WAIT, 2)"),
        ("flock", (4, 2), "flock(4 /data/a b.txt, LOCK_EX)"),
        ("fcntl", (4, 7), "fcntl(4 /data/a b.txt, F_SETLKW)"),
        ("pause", (1, 2), "pause()"),
        ("mount", (1, 2), "mount(0x1, 0x2, 0x0, 0x0, 0x0, 0x0)"),
    ],
)
def test_calls_as_text(name: str, arguments: tuple[int, ...], expected: str) -> None:
    assert calls.decode(name, (*arguments, *(0,) * (6 - len(arguments))), CONTEXT).text == expected


@given(
    st.sampled_from(["read", "poll", "futex", "openat", "nanosleep", "fcntl"]),
    st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6),
    st.binary(max_size=64),
)
def test_any_numbers_and_any_memory_are_text(name: str, arguments: list[int], memory: bytes) -> None:
    context = calls.Context({}, lambda address, size: memory[:size])
    call = calls.decode(name, tuple(arguments), context)
    assert call.text.startswith(f"{name}(")
    calls.mutex_owner(call, context.peek)


@pytest.mark.parametrize(
    ("operation", "words", "owner"),
    [
        (0x80, (2, 1, 42), 42),
        (0x80, (1, 1, 42), 0),  # nobody waits for such a mutex: something else
        (0x86, (0x80000000 | 42, 0, 0), 42),  # with priority inheritance
        (0x81, (2, 1, 42), 0),  # FUTEX_WAKE
    ],
)
def test_the_owner_of_a_mutex(operation: int, words: tuple[int, int, int], owner: int) -> None:
    peek = peek_of({0x100: struct.pack("=III", *words)})
    assert calls.mutex_owner(Call("futex", "", (0x100, operation, 2)), peek) == owner
    assert calls.mutex_owner(Call("futex", "", (0x200, operation, 2)), peek) == 0


# ── waits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def thread(tid: int, name: str = "", *arguments: int, owner: int = 0) -> Thread:
    call = Call(name, f"{name}()", (*arguments, *(0,) * (6 - len(arguments)))) if name else None
    return Thread(tid, tid + 1000, "t", "sleeping", call=call, mutex_owner=owner)


def process(
    pid: int, *threads: Thread, parent: int = 1, files: tuple[File, ...] = (), locks: tuple[Lock, ...] = ()
) -> Process:
    return Process(pid, pid + 1000, parent, ("p",), "/p", "/", 0, threads or (thread(pid),), files, locks)


def test_what_each_waits_for() -> None:
    near, far = (
        Socket("tcp", "10.0.0.2:80", "10.0.0.2:999", "established"),
        Socket("tcp", "10.0.0.2:999", "10.0.0.2:80"),
    )
    found = waits_of([
        process(2, thread(2, "futex", 0x10, 0x80, owner=3), thread(3, "futex", 0x20, 0x80)),
        process(4, thread(4, "wait4", 0xFFFFFFFF), parent=2),
        process(5, thread(5, "read", 0), parent=4, files=(File(0, "pipe:[1]", "r"),)),
        process(6, thread(6, "write", 1), parent=4, files=(File(1, "pipe:[1]", "w"),)),
        process(7, thread(7, "read", 0), files=(File(0, "pipe:[2]", "r"),)),
        process(8, thread(8, "flock", 3, 2), files=(File(3, "/l", "w"),)),
        process(9, thread(9, "recvfrom", 4), files=(File(4, "socket:[5]", "rw", socket=near),),
                locks=(Lock(9, "FLOCK", "WRITE", "/l"),)),
        process(10, thread(10, "nanosleep", 0), files=(File(4, "socket:[6]", "rw", socket=far),)),
        process(11, thread(11, "accept4", 4),
                files=(File(4, "socket:[8]", "rw", socket=Socket("tcp", "0.0.0.0:80", state="listening")),)),
        process(12, thread(12)),
    ])  # fmt: skip
    assert {wait.tid: (wait.text, wait.threads, wait.processes) for wait in found} == {
        2: ("a mutex that thread 3 holds", (3,), ()),
        3: ("a lock, a condition or another thread's end (futex); its holder is not known", (), ()),
        4: ("process 5, 6 to end", (), (5, 6)),
        5: ("data in pipe:[1], that process 6 writes to", (), (6,)),
        6: ("room in pipe:[1], that process 5 reads from", (), (5,)),
        7: ("data in pipe:[2], whose other end is outside the job", (), ()),
        8: ("the lock on /l that process 9 has", (), (9,)),
        9: ("data from 10.0.0.2:999 (tcp), process 10", (), (10,)),
        10: ("time: it sleeps", (), ()),
        11: ("a connection to 0.0.0.0:80", (), ()),
    }


@given(st.dictionaries(st.integers(1, 9), st.integers(1, 9)))
def test_circles_are_those_of_the_graph(edges: dict[int, int]) -> None:
    processes = [process(1, *(thread(tid) for tid in range(1, 10)))]
    found = circles([Wait(tid, "", threads=(to,)) for tid, to in edges.items()], processes)

    def comes_back(start: int) -> bool:
        here = start
        for _ in range(9):
            here = edges.get(here, 0)
            if here == start:
                return True
        return False

    assert sorted(tid for circle in found for tid in circle) == [tid for tid in range(1, 10) if comes_back(tid)]
    assert all(
        edges[one] == other for circle in found for one, other in zip(circle, (*circle[1:], circle[0]), strict=True)
    )


def test_no_circle_where_somebody_else_may_end_the_wait() -> None:
    two = [process(1, thread(1), thread(2)), process(3)]
    assert circles([Wait(1, "", processes=(3,)), Wait(3, "", processes=(1,))], two) == ()  # thread 2 may go on
    assert circles([Wait(1, "", threads=(2,)), Wait(2, "", threads=(1,), processes=(3,))], two) == ()
    assert circles([Wait(3, "", processes=(3,))], two) == ((3,),)


# ── as JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_survives_json() -> None:
    seen = Snapshot(
        "12_3", "n", "frozen", 1.5, "v2",
        (process(1, thread(1, "read", 0), files=(File(0, "socket:[1]", "rw", socket=Socket("tcp", "a")),)),),
        (Wait(1, "x", (2,)),), ((1, 2),), {"cpu_s": 1.0}, ("m",),
    )  # fmt: skip
    told = json.loads(json.dumps({**asdict(seen), "of_a_later_version": 1}))
    assert from_json(Snapshot, told) == seen


# ── Python ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stacks_of_threads() -> None:
    frame = {"name": "f", "filename": "a.py", "line": 3}
    told = [{"os_thread_id": 7, "frames": [frame, {**frame, "line": 9}]}, {"os_thread_id": None, "frames": []}]
    assert python.parse(json.dumps(told).encode()) == {7: ("f (a.py:3)", "f (a.py:9)"), 0: ()}


@pytest.mark.parametrize("text", [b"", b"{}x", b"[1]", b'[{"frames": 3}]', b'[{"frames": [], "os_thread_id": "x"}]'])
def test_what_is_no_list_of_stacks_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        python.parse(text)


@pytest.mark.parametrize(
    ("program", "library", "expected"),
    [
        ("/usr/bin/python3.11", "", True),
        ("/venv/bin/python", "", True),
        ("/usr/bin/app", "/usr/lib/libpython3.11.so.1.0", True),
        ("/usr/bin/python-config.sh", "", False),
        ("", "", False),
    ],
)
def test_which_programs_are_python(program: str, library: str, expected: bool) -> None:
    seen = replace(process(1), program=program, memory=(Region(library, 1, {0: 1}),))
    assert python.is_python(seen) == expected
