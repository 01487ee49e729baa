"""What the CLI and the daemon say to each other over HTTP, as standard-library dataclasses. Pure.

The daemon hands them to FastAPI, which validates types; `__post_init__` checks what a type can't say (ValueError).
Replies may grow: `decode` ignores keys it does not know. Requests may not: an unknown key is refused.
Nobody changes them, yet they are not frozen: making these classes frozen takes 5 ms more at each start of the CLI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeVar

MOST_SPEC_BYTES = 1 << 20
MOST_BODY_BYTES = 16 << 20
MOST_SPECS = 1000  # files of one submission
MOST_WAIT_S = 60.0  # of one long poll; a client asks again
MOST_GRACE_S = 86400.0
SIGNALS = (
    "HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "USR2", "ALRM", "TERM", "CONT", "STOP", "TSTP", "WINCH",
)  # fmt: skip

Until = Literal["final", "frozen", "running"]
Stream = Literal["stdout", "stderr"]
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_FORBID = {"extra": "forbid"}  # read by pydantic; a typing.TypedDict there, so nothing is imported here


def plain_text(name: str, text: str, *, most: int = 4096) -> None:
    """A path or a name: no control characters, not too long. Raises ValueError."""
    if len(text) > most:
        raise ValueError(f"{name} is longer than {most} characters")
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError(f"{name} holds a control character")


def absolute_path(name: str, path: str) -> None:
    """Absolute and already resolved textually: no `..`, no `//`. Raises ValueError."""
    plain_text(name, path)
    parts = path.split("/")
    if not path.startswith("/") or (path != "/" and any(part in ("", ".", "..") for part in parts[1:])):
        raise ValueError(f"{name} is not an absolute path without '.' and '..': {path!r}")


def image_name(name: str) -> None:
    """Raises ValueError."""
    if not _IMAGE.fullmatch(name):
        raise ValueError(f"not a name of an image: {name!r}; letters, digits and '._-', at most 128")


# --- requests -------------------------------------------------------------------------------------------------------


@dataclass
class SpecText:
    """One TOML text. `file` is its name as typed, for messages; `folder` holds the file, and relative sources start
    there; `submitted_from` is where the user stood. Both are absolute.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    toml: str
    file: str
    folder: str
    submitted_from: str
    sets: tuple[str, ...] = ()  # "key.path=value", later ones win

    def __post_init__(self) -> None:
        plain_text("file", self.file)
        absolute_path("folder", self.folder)
        absolute_path("submitted_from", self.submitted_from)
        if len(self.toml.encode()) > MOST_SPEC_BYTES:
            raise ValueError(f"{self.file}: larger than 1 MiB")
        if "\0" in self.toml or any("\0" in item for item in self.sets):
            raise ValueError(f"{self.file}: holds a NUL byte")
        if len(self.sets) > 256:
            raise ValueError("more than 256 --set overrides")


@dataclass
class Submit:
    """All or nothing. The same `request_id` of the same user again is the same submission, so it can be repeated."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    specs: tuple[SpecText, ...]
    request_id: str
    hold: bool = False

    def __post_init__(self) -> None:
        _some_specs(self.specs)
        if not _REQUEST_ID.fullmatch(self.request_id):
            raise ValueError("request_id: 1 to 64 letters, digits and '_.-'")


@dataclass
class Check:
    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    specs: tuple[SpecText, ...]

    def __post_init__(self) -> None:
        _some_specs(self.specs)


def _some_specs(specs: tuple[SpecText, ...]) -> None:
    if not 1 <= len(specs) <= MOST_SPECS:
        raise ValueError(f"from 1 to {MOST_SPECS} specs at once, not {len(specs)}")


@dataclass
class Cancel:
    """What is None is taken from the spec's `stop`. `signal` without SIG."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    signal: str | None = None
    grace_s: float | None = None

    def __post_init__(self) -> None:
        if self.signal is not None and self.signal not in SIGNALS:
            raise ValueError(f"no signal {self.signal!r}; one of {', '.join(SIGNALS)}")
        if self.grace_s is not None and not 0 <= self.grace_s <= MOST_GRACE_S:
            raise ValueError("grace_s: from 0 to 86400 seconds")


@dataclass
class Pause:
    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    keep_cpus: bool = False


@dataclass
class Priority:
    """A field that is None stays as it is."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    urgency: int | None = None
    cpu_weight: int | None = None
    io_weight: int | None = None
    network_class: str | None = None

    def __post_init__(self) -> None:
        _within("urgency", self.urgency, 0, 100)
        _within("cpu_weight", self.cpu_weight, 1, 10000)
        _within("io_weight", self.io_weight, 1, 10000)
        if self.network_class not in (None, "background", "normal", "high", "realtime"):
            raise ValueError(f"no network class {self.network_class!r}; one of background, normal, high, realtime")
        if (self.urgency, self.cpu_weight, self.io_weight, self.network_class) == (None, None, None, None):
            raise ValueError("nothing to change; give an urgency, a weight or a network class")


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ValueError(f"{name}: from {low} to {high}, not {value}")


@dataclass
class Exec:
    """A program to run in the namespaces of a running job."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    argv: tuple[str, ...]
    tty: bool = False
    env: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        words = [*self.argv, *(word for pair in self.env for word in pair)]
        if not self.argv or not self.argv[0]:
            raise ValueError("argv: no program given")
        if len(words) > 4096 or sum(len(word) for word in words) > 128 << 10:
            raise ValueError("argv and env: at most 4096 words and 128 KiB")
        if any("\0" in word for word in words):
            raise ValueError("argv and env: a NUL byte")
        if any(not name or "=" in name for name, _ in self.env):
            raise ValueError("env: a name is empty or holds '='")


@dataclass
class WhatIf:
    """What a waiting job would ask for instead; None: as it is. `time_limit_s` in running time, 0: none."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    cpus: float | None = None
    memory_bytes: int | None = None
    numa: Literal["local", "spread", "any"] | None = None
    cores: Literal["shared", "whole"] | None = None
    time_limit_s: float | None = None
    urgency: int | None = None
    queue: str | None = None

    def __post_init__(self) -> None:
        _within("urgency", self.urgency, 0, 100)
        _within("cpus", self.cpus, 0.001, 1 << 20)
        _within("memory_bytes", self.memory_bytes, 1, 1 << 60)
        _within("time_limit_s", self.time_limit_s, 0, 10 * 366 * 86400)
        plain_text("queue", self.queue or "", most=128)
        if all(getattr(self, item.name) is None for item in fields(self)):
            raise ValueError("nothing is different; give cpus, memory, numa, cores, a time limit, urgency or a queue")


@dataclass
class ImportImage:
    """`source` is opened by the daemon with the rights of who asks."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    name: str
    source: str
    kind: Literal["auto", "dir", "tar"] = "auto"

    def __post_init__(self) -> None:
        image_name(self.name)
        absolute_path("source", self.source)


# --- replies --------------------------------------------------------------------------------------------------------


@dataclass
class Accepted:
    """Ids in the order of the specs given."""

    jobs: tuple[int, ...]
    names: tuple[str, ...]
    tasks: tuple[int, ...] = ()  # of each array; 0: a single job


@dataclass
class Checked:
    """The specs as they were understood, every unit resolved, each after those it waits for; the file of each."""

    specs: tuple[dict[str, Any], ...]
    files: tuple[str, ...] = ()


@dataclass
class Job:
    """One job now. Times `…_at` are wall clock; `ran_s` does not count frozen time. `spec` is None in lists.

    `id` is how people write it: `17`, or `12_3` for the task of index 3 of the array 12.
    """

    job: int
    name: str
    state: str
    owner: str
    uid: int
    urgency: int
    cpu_weight: int
    io_weight: int
    network_class: str
    cpus_wanted: float
    memory_limit_bytes: int
    submitted_at: float
    queue: str = "default"
    account: str = ""
    generic_wanted: tuple[tuple[str, int], ...] = ()
    variant: int = 0  # of the spec, that it runs or ran as
    started_at: float = 0.0
    ended_at: float = 0.0
    frozen_at: float = 0.0
    ran_s: float = 0.0
    final: bool = False
    exit_status: int | None = None
    reason: str = ""
    waits_for: tuple[str, ...] = ()  # why it does not run now
    holds: tuple[str, ...] = ()  # who wants it paused: "owner", "operator"
    cancelling: str = ""  # the signal asked for
    preempted_by: int = 0  # the more urgent job that it makes room for
    attempt: int = 0
    execution: str = ""
    cpus: tuple[int, ...] = ()
    mems: tuple[int, ...] = ()
    exclusive: bool = False
    idle: tuple[int, ...] = ()  # threads of its whole cores that it does not use and nobody else gets
    generic: tuple[tuple[str, tuple[int, ...]], ...] = ()  # (name of a generic resource, its instances)
    node_id: str = ""
    address: str = ""
    freezer: str = ""
    carriers: tuple[str, ...] = ()  # what carries the network class, the one with the last word first
    notes: tuple[str, ...] = ()  # what was asked for and the host cannot do
    freezes: int = 0
    resident_bytes: int = 0
    usage: dict[str, float] = field(default_factory=dict)  # jobs.events.Usage
    cleaned: bool = False
    leftovers: tuple[str, ...] = ()
    version: int = 0
    id: str = ""
    array: int = 0  # of a task: the job of its array
    index: int = 0  # of a task, in that array
    tasks: dict[str, int] = field(default_factory=dict)  # of an array: how many are pending, live, completed, bad
    pending: str = ""  # of an array: the indexes that have not begun
    needs: tuple[dict[str, Any], ...] = ()  # jobs.needs.Need
    not_before: float = 0.0  # wall clock: its begin, or the end of the pause before a retry
    retries: int = 0
    checkpoints: int = 0  # how often it asked to be started again
    warned: bool = False  # in this attempt
    deadline_at: float = 0.0
    points: dict[str, float] = field(default_factory=dict)  # what its place in the order is made of; not in lists
    spec: dict[str, Any] | None = None

    @property
    def written(self) -> str:
        return self.id or str(self.job)


@dataclass
class Lack:
    """One dimension that keeps a job from starting. `unit` of `wanted` and `available`: "cpus", "bytes", …"""

    dimension: str
    text: str
    wanted: float = 0.0
    available: float = 0.0
    unit: str = ""
    blockers: tuple[int, ...] = ()  # jobs
    others: int = 0  # how many more jobs have what it lacks


@dataclass
class Blocker:
    """A job in the way. `name` and `owner` are "" where it is not the asker's to know."""

    job: int
    state: str
    name: str = ""
    owner: str = ""
    ends_at: float = 0.0  # wall clock, by time limit or estimate; 0: not known


@dataclass
class Remedy:
    """One change that starts the job now. `what`: cpus, memory, numa, cores, time_limit, urgency or queue."""

    what: str
    value: str
    freezes: tuple[int, ...] = ()  # jobs that would be frozen for it


@dataclass
class Why:
    """Why a job does not run at `at`. `verdict`: "starts", "not now", "never", or "" where it does not wait.

    `start_at` is None where it is not known, for the reason in `start_why`; it rests on `start_by`: "time limits",
    "estimates" (of the jobs `open_ended`, which give no limit), "freezing" (as soon as others stand still) or "the
    clock". `remedies`: cheapest first."""

    job: int
    state: str
    at: float
    verdict: str
    name: str = ""
    lacks: tuple[Lack, ...] = ()
    blockers: tuple[Blocker, ...] = ()
    ahead: int = 0  # waiting jobs before it
    start_at: float | None = None
    start_by: str = ""
    start_why: str = ""
    open_ended: tuple[int, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    cpus: tuple[int, ...] = ()  # where it starts
    mems: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    past: bool = False  # asked about a time that is over


@dataclass
class JobList:
    """Oldest first."""

    jobs: tuple[Job, ...]


@dataclass
class Placed:
    """What one job holds of this host. Another user's job has no id and no name for who does not operate."""

    job: int  # 0: somebody else's
    name: str
    owner: str
    state: str
    cpus: tuple[int, ...] = ()
    idle: tuple[int, ...] = ()
    exclusive: bool = False
    shares: float = 0.0  # CPUs, when not exclusive
    memory: tuple[tuple[int, int], ...] = ()  # (memory node, bytes): of a frozen job what is resident
    generic: tuple[tuple[str, tuple[int, ...]], ...] = ()  # (name of a generic resource, its instances)


@dataclass
class NodeMemory:
    """`for_jobs_bytes`: less huge pages, and what the host keeps for itself."""

    node: int
    for_jobs_bytes: int
    given_bytes: int = 0


@dataclass
class Machine:
    """The host's topology and who has what of it. `topology` is a jobs.host.Topology."""

    node_id: str
    topology: dict[str, Any]
    memory: tuple[NodeMemory, ...] = ()
    placed: tuple[Placed, ...] = ()


@dataclass
class Ticket:
    """For `exec`: connect to `socket`, send `ticket`. Good once, and for the same user only."""

    socket: str
    ticket: str


@dataclass
class Head:
    """Last sequence number of the journal and its hash."""

    seq: int
    hash: str


@dataclass
class Problem:
    file: str = ""
    line: int = 0
    key: str = ""
    message: str = ""
    hint: str = ""


@dataclass
class Failure:
    """Body of every reply that is not 2xx. `code` is one of jobs.errors."""

    code: str
    message: str
    hint: str = ""
    problems: tuple[Problem, ...] = ()


T = TypeVar("T")


def decode(cls: type[T], data: dict[str, Any]) -> T:
    """A flat reply from parsed JSON: unknown keys are left out, lists become tuples."""
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return cls(**{key: value for key, value in tuples.items() if key in known})


def decode_jobs(data: dict[str, Any]) -> JobList:
    return JobList(tuple(decode(Job, item) for item in data["jobs"]))


def decode_why(data: dict[str, Any]) -> Why:
    why = decode(Why, data)
    why.lacks = tuple(decode(Lack, item) for item in data["lacks"])
    why.blockers = tuple(decode(Blocker, item) for item in data["blockers"])
    why.remedies = tuple(decode(Remedy, item) for item in data["remedies"])
    return why


def decode_machine(data: dict[str, Any]) -> Machine:
    return Machine(
        node_id=data["node_id"],
        topology=data["topology"],
        memory=tuple(decode(NodeMemory, item) for item in data["memory"]),
        placed=tuple(decode(Placed, item) for item in data["placed"]),
    )


def exit_code(job: Job) -> int:
    """Of `wait`, `run` and `--follow`: the job's own status; 130 cancelled before it ran; 3 not started, or lost."""
    if job.exit_status is not None:
        return job.exit_status
    return 130 if job.state == "cancelled" else 3


def reached(state: str, final: bool, holds: bool, until: Until) -> bool:
    """Whether a job that is waited for is there, or can't get there any more."""
    if final:
        return True
    if until == "frozen":  # a waiting job that is paused is held; without holds the freeze failed and was undone
        return state in ("frozen", "held") or not holds
    return until == "running" and state == "running" and not holds
