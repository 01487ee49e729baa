"""Everything known of one job now; made only by `jobs.states.advance`. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from jobs.array import Progress, progress_from_json
from jobs.events import Owner, Usage
from jobs.ids import ExecutionId
from jobs.needs import Need, need_from_json
from jobs.placement import Placement
from jobs.placement import from_json as placement_from_json
from jobs.plain import defaults, plain
from jobs.spec import JobSpec, resolved


class State(StrEnum):
    HELD = "held"  # waits for its owner or an operator to release it
    QUEUED = "queued"  # waits for resources
    STARTING = "starting"  # placed; the node builds its container
    RUNNING = "running"
    FROZEN = "frozen"  # every task stands still, memory kept
    THAWING = "thawing"  # has CPUs again; the node thaws it
    UNDERWAY = "underway"  # an array: nothing of it waits any more, and not all of its tasks have ended
    COMPLETED = "completed"  # exit status 0
    FAILED = "failed"  # another exit status, or the container could not be made
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    LOST = "lost"  # what became of it is not known

    @property
    def final(self) -> bool:
        return self in FINAL

    @property
    def on_node(self) -> bool:
        """Has processes, or may have."""
        return self in ON_NODE


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.OUT_OF_MEMORY, State.LOST})
ON_NODE = frozenset({State.STARTING, State.RUNNING, State.FROZEN, State.THAWING})
NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Cancel:
    by: str
    signal: str
    grace_s: float


@dataclass(frozen=True, slots=True)
class Record:
    """`version` counts the events applied; a proposal against an older version is stale.

    `placement` is set exactly while the job owns CPUs; `pause_holds` says who wants it frozen. `home` is the last
    placement: the memory nodes where its pages lie, also while it is frozen and owns no CPUs.
    """

    job: int
    version: int
    state: State
    spec: JobSpec
    owner: Owner
    submitted_at: float
    urgency: int
    cpu_weight: int
    io_weight: int
    network_class: str
    spec_digest: str = ""
    request_id: str = ""
    attempt: int = 0
    placement: Placement | None = None
    pause_holds: frozenset[str] = frozenset()
    keep_cpus: bool = False
    cancel: Cancel | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    frozen_at: float = 0.0
    ran_s: float = 0.0  # running time up to the last report
    running_since: float = 0.0  # wall clock, for display
    freezes: int = 0
    resident_bytes: int = 0  # while frozen; of a preempted one that runs still, what is counted on
    address: str = ""
    freezer: str = ""
    carriers: tuple[str, ...] = ()  # what carries the network class, the one with the last word first
    notes: tuple[str, ...] = ()  # what was asked for and the host cannot do
    exit_status: int | None = None
    reason: str = ""  # why it failed, was lost, or could not be frozen
    usage: Usage = NO_USAGE
    cleaned: bool = False  # the node let go of everything of the last attempt
    leftovers: tuple[str, ...] = ()
    home: Placement | None = None
    preempted_by: int = 0  # the job for which the scheduler freezes it, froze it, or queued it again; 0: none
    preempted_lately: tuple[float, ...] = ()  # wall times of the preemptions of the last hour, oldest first
    needs: tuple[Need, ...] = ()  # what it waits for
    array: int = 0  # the job of the array whose task this is; 0: none's
    index: int = 0  # in that array
    progress: Progress | None = None  # of an array: what became of its tasks
    weights_version: int = 0  # the version that changed weights or network class after the placement; 0: none did
    not_before: float = 0.0  # wall clock: its begin, or the end of the pause before a retry
    retries: int = 0  # of those that spec.retry allows
    checkpoints: int = 0  # how often it asked to be started again, by its exit status
    crashes: int = 0  # short attempts in a row, up to the last one
    abandoned: int = 0  # starts in a row that launcher or daemon cut off
    memory_bytes: int = 0  # asked for since an OOM; 0: what the spec says
    warned: bool = False  # of the coming end, in this attempt
    variant: int = 0  # that it was last placed as

    @property
    def execution(self) -> ExecutionId:
        """The current attempt; attempt 0 means none yet."""
        return ExecutionId(self.job, 0, self.attempt)

    @property
    def written(self) -> str:
        """How people write it: `17`, or `12_3` for the task of index 3 of the array 12."""
        return f"{self.array}_{self.index}" if self.array else str(self.job)

    @property
    def user(self) -> str:
        return self.owner.name or str(self.owner.uid)

    @property
    def account(self) -> str:
        """Whose share it uses: the user's own where the spec names none."""
        return self.spec.account or self.user

    @property
    def to_freeze(self) -> bool:
        """Somebody wants it to stand still: owner, operator or the scheduler."""
        return bool(self.pause_holds or self.preempted_by)

    @property
    def wanted(self) -> JobSpec:
        """What it was last given, or asks for first: the spec in one of its variants."""
        return self.as_variant(self.variant)

    @property
    def alternatives(self) -> tuple[JobSpec, ...]:
        """All that it may be started as, the best first; the position is the variant's number."""
        return tuple(self.as_variant(variant) for variant in range(len(self.spec.variants) + 1))

    def as_variant(self, variant: int) -> JobSpec:
        """With the memory that a retry after an OOM gets."""
        spec = resolved(self.spec, variant)
        if self.memory_bytes <= spec.resources.memory_bytes:
            return spec
        return replace(spec, resources=replace(spec.resources, memory_bytes=self.memory_bytes))

    @property
    def deadline_at(self) -> float:
        """Wall clock; 0: none."""
        return self.spec.deadline.of(self.submitted_at)

    @property
    def latest_start_at(self) -> float:
        """So that it can run up to its time limit and has ended by its deadline. Wall clock; 0: no deadline."""
        return max(self.submitted_at, self.deadline_at - self.spec.time_limit_s) if self.deadline_at else 0.0


_DEFAULTS = defaults(Record)


def to_json(record: Record) -> dict[str, Any]:
    """What is not as the defaults say, without the spec, which never changes and is kept apart."""
    usual, data = _DEFAULTS, plain(record)
    del data["spec"]
    data = {
        name: value
        for name, value in data.items()
        if name not in usual or not (value is usual[name] or value == usual[name])
    }
    if record.pause_holds:
        data["pause_holds"] = sorted(record.pause_holds)
    return data


_READ: dict[str, Callable[[Any], Any]] = {
    "state": State,
    "owner": lambda given: Owner(**{**given, "groups": tuple(given["groups"])}),
    "pause_holds": frozenset,
    "usage": lambda given: Usage(**given),
    "leftovers": tuple,
    "carriers": tuple,
    "notes": tuple,
    "preempted_lately": tuple,
    "placement": lambda given: placement_from_json(given) if given else None,
    "home": lambda given: placement_from_json(given) if given else None,
    "cancel": lambda given: Cancel(**given) if given else None,
    "needs": lambda given: tuple(map(need_from_json, given)),
    "progress": lambda given: progress_from_json(given) if given else None,
}


def from_json(data: dict[str, Any], spec: JobSpec) -> Record:
    """Inverse of `to_json`. Raises TypeError on keys that this version does not know."""
    return Record(spec=spec, **{name: _READ[name](value) if name in _READ else value for name, value in data.items()})
