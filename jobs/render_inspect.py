"""What `inspect` saw, as text for people: first what is stuck and why, then each process. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from jobs.inspection import File, Process, Region, Snapshot, Thread, Wait
from jobs.render import Look, printable
from jobs.units import render_duration, render_size

MOST_FILES = 12  # of a process; --json has all
MOST_REGIONS = 6
MOST_FRAMES = 8
FREEZER_WAKES = 2  # freezing and thawing wake a thread, which goes back into its call


def page(seen: Snapshot, look: Look) -> str:
    state = f"frozen (freezer {seen.frozen_by})" if seen.frozen_by else seen.state
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seen.at))
    count = sum(len(process.threads) for process in seen.processes)
    lines = [
        look.bold(f"job {seen.job}  {printable(seen.name)}"),
        f"  {look.paint(seen.state, state)}, looked at {moment}: "
        f"{_number(len(seen.processes), 'process', 'processes')}, {_number(count, 'thread')}",
        *(f"  {line}" for line in _circles(seen)),
        *_counters(seen),
        *(f"  not seen: {printable(text)}" for text in seen.missing),
        "",
        *_tree(seen.processes),
    ]
    waits = {wait.tid: wait for wait in seen.waits}
    for process in seen.processes:
        lines += ["", *_process(process, waits, look)]
    return "\n".join(lines)


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def _circles(seen: Snapshot) -> Iterator[str]:
    waits = {wait.tid: wait for wait in seen.waits}
    for circle in seen.circles:
        yield f"DEADLOCK: {_number(len(circle), 'thread')} wait for each other, and none can go on:"
        yield from (f"  thread {tid} waits for {printable(waits[tid].text)}" for tid in circle)


def _counters(seen: Snapshot) -> Iterator[str]:
    if not (found := seen.counters):
        return
    waited = ", ".join(
        f"{render_duration(found[f'{name}_wait_s'])} for {name}"
        for name in ("cpu", "memory", "io")
        if found.get(f"{name}_wait_s")
    )
    yield (
        f"  used: cpu {render_duration(found.get('cpu_s', 0.0))}, memory {render_size(found.get('memory_bytes', 0))}, "
        f"read {render_size(found.get('io_read_bytes', 0))}, written {render_size(found.get('io_write_bytes', 0))}"
        + (f"; waited {waited}" if waited else "")
    )


def _tree(processes: Sequence[Process]) -> Iterator[str]:
    children: dict[int, list[Process]] = {}
    known = {process.pid for process in processes}
    for process in processes:
        children.setdefault(process.parent if process.parent in known else 0, []).append(process)

    def walk(parent: int, depth: int) -> Iterator[str]:
        for process in children.get(parent, ()):
            yield f"  {'  ' * depth}{process.pid} {_command(process)}"
            yield from walk(process.pid, depth + 1)

    return walk(0, 0)


def _command(process: Process) -> str:
    return _shortened(printable(" ".join(process.argv)), 100)


def _shortened(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"


def _process(process: Process, waits: dict[int, Wait], look: Look) -> Iterator[str]:
    yield look.bold(f"process {process.pid}  {_command(process)}")
    where = printable(f"{process.program} in {process.folder}")
    yield f"  host pid {process.host_pid}, uid {process.uid}, {where}"
    for thread in process.threads:
        yield from _thread(thread, waits.get(thread.tid))
    yield from _some("files", map(_file, process.files), MOST_FILES)
    yield from _some("locks", (
        f"{lock.kind} {lock.mode} on {printable(lock.path)}{', waits for it' if lock.waiting else ''}"
        for lock in process.locks
    ), MOST_FILES)  # fmt: skip
    yield from _some("memory", map(_region, process.memory), MOST_REGIONS)
    if process.environment:
        yield f"  environment: {_number(len(process.environment), 'variable')} (--json)"


def _thread(thread: Thread, wait: Wait | None) -> Iterator[str]:
    yield (
        f"  thread {thread.tid} {printable(thread.name)}: {thread.state}, CPU {thread.cpu}, "
        f"used {render_duration(thread.cpu_s)}" + (f", stands in {thread.wait_channel}" if thread.wait_channel else "")
    )
    if wait is not None:
        yield f"    waits for {printable(wait.text)}"
    if thread.call is not None:
        yield f"    call    {printable(thread.call.text)}"
    if thread.where:
        yield f"    at      {printable(thread.where)}"
    yield from _frames("python", thread.python)
    if thread.kernel_stack:
        yield f"    kernel  {' < '.join(frame.partition('+')[0] for frame in thread.kernel_stack[:MOST_FRAMES])}"


def _frames(title: str, frames: Sequence[str]) -> Iterator[str]:
    """One a line, the first beside the title."""
    for number, frame in enumerate(frames[:MOST_FRAMES]):
        yield f"    {title if number == 0 else '':<7} {printable(frame)}"
    if len(frames) > MOST_FRAMES:
        yield f"    {'':<7} and {len(frames) - MOST_FRAMES} more (--json)"


def _file(file: File) -> str:
    text = f"{file.fd} {file.mode:<2} {printable(file.target)}"
    if (socket := file.socket) is not None:
        text += f" {socket.kind} {printable(socket.local)}" + (f" → {printable(socket.peer)}" if socket.peer else "")
        text += f" {socket.state}" if socket.state else ""
        if socket.receive_queue or socket.send_queue:
            text += f", {socket.receive_queue} bytes to read, {socket.send_queue} to send"
    elif file.offset:
        text += f" at {file.offset}"
    return text.rstrip()


def _region(region: Region) -> str:
    nodes = ", ".join(f"node {node} {render_size(size)}" for node, size in region.by_node.items())
    return f"{printable(region.name)}: {nodes}"


def _some(title: str, items: Iterable[str], most: int) -> Iterator[str]:
    """The first so many under a title, and how many there are more."""
    found = list(items)
    if not found:
        return
    yield f"  {title}:"
    yield from (f"    {item}" for item in found[:most])
    if len(found) > most:
        yield f"    and {len(found) - most} more (--json)"


# ── two looks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def difference(before: Snapshot, after: Snapshot, look: Look) -> str:
    """What moved between two looks at the same job."""
    old = {process.pid: process for process in before.processes}
    new = {process.pid: process for process in after.processes}
    wakes = FREEZER_WAKES if before.frozen_by or after.frozen_by else 0
    lines = [
        look.bold(f"job {after.job}  {printable(after.name)}: what moved in {render_duration(after.at - before.at)}")
    ]
    lines += [f"  process {pid} is gone: {_command(old[pid])}" for pid in sorted(old.keys() - new.keys())]
    lines += [f"  process {pid} is new: {_command(new[pid])}" for pid in sorted(new.keys() - old.keys())]
    for pid in sorted(old.keys() & new.keys()):
        lines += [f"  process {pid} {text}" for text in _moved(old[pid], new[pid], wakes)]
    still = sum(
        1
        for pid in old.keys() & new.keys()
        for thread in new[pid].threads
        if any(_same(thread, other, wakes) for other in old[pid].threads)
    )
    lines.append(f"  {_number(still, 'thread')} did not run at all" if still else "  every thread ran")
    return "\n".join(lines)


def _same(one: Thread, other: Thread, wakes: int) -> bool:
    """Whether a thread did nothing between two looks."""
    if (one.tid, one.cpu_s, one.call) != (other.tid, other.cpu_s, other.call):
        return False
    return one.call is not None and abs(one.switches - other.switches) <= wakes


def _moved(before: Process, after: Process, wakes: int) -> Iterator[str]:
    if before.argv != after.argv:
        yield f"is now {_command(after)}"
    old = {thread.tid: thread for thread in before.threads}
    new = {thread.tid: thread for thread in after.threads}
    for tid in sorted(old.keys() - new.keys()):
        yield f"thread {tid} has ended"
    for tid, thread in sorted(new.items()):
        was = old.get(tid)
        if was is None:
            yield f"thread {tid} is new: {thread.state}"
        elif not _same(was, thread, wakes):
            call = thread.call.text if thread.call else "its own code"
            yield (
                f"thread {tid} ran: {render_duration(thread.cpu_s - was.cpu_s)} of CPU, "
                f"{thread.switches - was.switches} switches; now in {printable(call)}"
            )
    files = {file.fd: file for file in before.files}
    for file in after.files:
        earlier = files.get(file.fd)
        if earlier is None or earlier.target != file.target:
            yield f"opened {printable(file.target)} as {file.fd}"
        elif earlier.offset != file.offset:
            yield f"moved in {printable(file.target)} from {earlier.offset} to {file.offset}"
    for fd in sorted(files.keys() - {file.fd for file in after.files}):
        yield f"closed {printable(files[fd].target)}"
    size, was_size = (sum(region.resident for region in each.memory) for each in (after, before))
    if size != was_size:
        yield f"has {render_size(size)} resident instead of {render_size(was_size)}"
