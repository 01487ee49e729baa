"""Jobs as text for people: tables, one page, one line. Pure: values in, text out; the terminal is jobs/cli/terminal.

Text that came from users (names, reasons, paths) is made printable here: it must not steer the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs import cpuset
from jobs.protocol import Job
from jobs.units import render_duration, render_size

_COLOURS = {
    "completed": "32", "running": "36", "starting": "36", "underway": "36", "thawing": "36",
    "frozen": "33", "held": "33",
    "failed": "31", "out_of_memory": "31", "timed_out": "31", "lost": "31", "cancelled": "35",
}  # fmt: skip
_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 8: "FPE", 9: "KILL", 11: "SEGV", 13: "PIPE", 15: "TERM"}


@dataclass(frozen=True, slots=True)
class Look:
    """How to draw. `now` is wall clock; `program` is what the user typed, for commands in hints."""

    width: int = 100
    colour: bool = False
    now: float = 0.0
    program: str = "jobs"

    def paint(self, state: str, text: str) -> str:
        code = _COLOURS.get(state)
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code else text

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text


def printable(text: str) -> str:
    """Control characters shown as `?`: a name or a reason can't move the cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)


def with_program(text: str, program: str) -> str:
    """Commands in a message of ours, as they must be typed here: `jobs` is a builtin where no shell-init was done."""
    return text if program == "jobs" else text.replace("jobs ", f"{program} ") if text.startswith("jobs ") else (
        text.replace(": jobs ", f": {program} ")
    )  # fmt: skip


# --- one job --------------------------------------------------------------------------------------------------------


def phase(job: Job) -> str:
    """The state in words, with what was asked for and is not done yet."""
    if job.final:
        return job.state.replace("_", " ")
    if job.cancelling:
        return "stopping"
    if job.state == "running" and job.holds:
        return "pausing"
    if job.state == "running" and job.preempted_by:
        return "freezing"
    if job.state == "frozen" and not job.holds and not job.preempted_by:
        return "resuming"
    return job.state


def elapsed_s(job: Job, now: float) -> float:
    """Wall time from the start to the end or now; 0 before the start."""
    if not job.started_at:
        return 0.0
    return max(0.0, (job.ended_at or now) - job.started_at)


def ending(job: Job) -> str:
    """How the program ended: "exit status 3", "signal KILL", or "" ."""
    status = job.exit_status
    if status is None:
        return ""
    if status > 128 and status - 128 in _SIGNALS:
        return f"signal {_SIGNALS[status - 128]}"
    return f"exit status {status}"


def remark(job: Job) -> str:
    """The one thing worth saying about it now."""
    if job.state == "completed":
        return ""
    if job.final:
        return printable("; ".join(filter(None, (job.reason, "" if job.tasks else ending(job)))))
    if job.tasks:
        return "; ".join(filter(None, (of_tasks(job), *map(printable, job.waits_for[:1]))))
    if job.holds and job.state in ("held", "frozen", "running"):
        return "by an operator" if "operator" in job.holds else printable(job.reason)
    if job.preempted_by and job.state in ("frozen", "running"):
        return f"by the scheduler for job {job.preempted_by}"
    before = job.reason if job.attempt or not job.waits_for else ""
    return printable("; ".join(filter(None, (before, *job.waits_for[:1]))))


def of_tasks(job: Job) -> str:
    """`12 of 1000 tasks completed, 3 failed, 50 live, 935 pending`."""
    tasks = job.tasks
    more = [(tasks["bad"], "not completed"), (tasks["live"], "live"), (tasks["pending"], "pending")]
    return f"{tasks['completed']} of {tasks['all']} tasks completed" + "".join(
        f", {number} {what}" for number, what in more if number
    )


def outcome(job: Job, look: Look, *, hint: bool = True) -> str:
    """Last line of a followed job: what became of it, what it used, and where to look next."""
    used = f"ran {render_duration(job.ran_s)}, cpu {render_duration(job.usage.get('cpu_s', 0.0))}"
    if peak := job.usage.get("memory_peak_bytes"):
        used += f", peak {render_size(peak)}"
    used = of_tasks(job) if job.tasks else used
    text = f"job {job.written} ({printable(job.name)}) {look.paint(job.state, phase(job))}: {used}"
    if job.state == "completed":
        return text
    if job.tasks:
        hint = hint and job.state == "failed"
        return text + (f"\n  see which with: {look.program} list --state failed" if hint else "")
    if not job.attempt:
        return f"job {job.written} ({printable(job.name)}) {look.paint(job.state, phase(job))}: {remark(job)}"
    return f"{text}; {remark(job)}" + (f"\n  see more with: {look.program} show {job.written}" if hint else "")


def progress(job: Job, look: Look) -> str:
    """One line: state, elapsed, CPU, memory, output."""
    head = f"job {job.written} {printable(job.name)[:24]}  {look.paint(job.state, phase(job))}"
    if not job.attempt:
        return f"{head}  {remark(job)}".rstrip()
    usage = job.usage
    output = usage.get("stdout_bytes", 0) + usage.get("stderr_bytes", 0)
    return (
        f"{head}  {render_duration(elapsed_s(job, look.now))}  cpu {render_duration(usage.get('cpu_s', 0.0))}"
        f"  mem {render_size(usage.get('memory_bytes', 0) or job.resident_bytes)}  out {render_size(output)}"
    )


# --- many jobs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """`keep`: dropped in this order when the terminal is narrow; 0 never. `right`: numbers."""

    title: str
    text: Callable[[Job, Look], str]
    keep: int = 0
    right: bool = False


def _bytes(name: str) -> Callable[[Job, Look], str]:
    return lambda job, look: render_size(job.usage.get(name, 0)) if job.attempt else ""


COLUMNS = (
    Column("JOB", lambda job, look: str(job.written), right=True),
    Column("NAME", lambda job, look: printable(job.name)),
    Column("USER", lambda job, look: printable(job.owner), keep=6),
    Column("STATE", lambda job, look: phase(job)),
    Column("CPUS", lambda job, look: cpuset.render(job.cpus) if job.exclusive else f"{job.cpus_wanted:g}", 4, True),
    Column("ELAPSED", lambda job, look: render_duration(elapsed_s(job, look.now)) if job.started_at else "", 8, True),
    Column("CPU", lambda job, look: render_duration(job.usage.get("cpu_s", 0.0)) if job.attempt else "", 7, True),
    Column("MEMORY", _bytes("memory_bytes"), 5, True),
    Column("PEAK", _bytes("memory_peak_bytes"), 2, True),
    Column("OUTPUT", lambda job, look: _total_output(job), 3, True),
    Column("URGENCY", lambda job, look: str(job.urgency), 1, True),
    Column("", lambda job, look: remark(job)),
)


def _total_output(job: Job) -> str:
    return render_size(job.usage.get("stdout_bytes", 0) + job.usage.get("stderr_bytes", 0)) if job.attempt else ""


def table(jobs: Sequence[Job], look: Look) -> str:
    """One line a job, as wide as the terminal: columns go, then long names and remarks are cut."""
    columns = list(COLUMNS)
    if len({job.owner for job in jobs}) < 2:
        columns = [column for column in columns if column.title != "USER"]
    cells = {column: [column.text(job, look) for job in jobs] for column in columns}
    columns = [column for column in columns if not column.keep or any(cells[column])]
    columns = _fitting(columns, cells, look.width)
    wide = (
        {column: max(len(column.title), *(len(text) for text in cells[column])) for column in columns} if jobs else {}
    )
    name = next(column for column in columns if column.title == "NAME")
    if jobs:
        wide[name] = max(8, min(wide[name], look.width - _total(wide, name)))
    lines = [_row(columns, [column.title for column in columns], wide, look, "")] if jobs else []
    lines += [
        _row(columns, [cells[column][row] for column in columns], wide, look, job.state) for row, job in enumerate(jobs)
    ]
    return "\n".join(lines)


def _fitting(columns: list[Column], cells: dict[Column, list[str]], width: int) -> list[Column]:
    def needed() -> int:
        return sum(2 + max([len(column.title), *map(len, cells[column])]) for column in columns if column.title)

    for column in sorted((column for column in columns if column.keep), key=lambda column: column.keep):
        if needed() <= width:
            break
        columns = [kept for kept in columns if kept is not column]
    return columns


def _total(wide: dict[Column, int], but: Column) -> int:
    return sum(2 + size for column, size in wide.items() if column is not but and column.title)


def _row(columns: list[Column], texts: list[str], wide: dict[Column, int], look: Look, state: str) -> str:
    parts, length = [], 0
    for column, text in zip(columns, texts, strict=True):
        size = wide[column] if column.title else max(0, look.width - length)
        text = _cut(text, size)
        padded = (text.rjust(size) if column.right else text.ljust(size)) if column.title else text
        parts.append(look.paint(state, padded) if column.title == "STATE" else padded)
        length += size + 2
    return "  ".join(parts).rstrip()


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: max(0, size - 1)] + "…" if size else ""


def plain_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, for what is not a job."""
    sizes = [max(len(line[index]) for line in (titles, *rows)) for index in range(len(titles))]
    lines = [
        "  ".join(printable(text).ljust(size) for text, size in zip(line, sizes, strict=True))
        for line in (titles, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
