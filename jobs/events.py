"""What happened to a job, as values. The journal stores them; `jobs.states.advance` gives each its meaning. Pure.

Kinds by origin: a user's or operator's request, a decision of the scheduler, a report of the node.
Wall times (`at`) are for display only; running time comes from the node as `ran_s`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from jobs.host import Topology, topology_from_json
from jobs.needs import Need, need_from_json
from jobs.placement import Placement
from jobs.placement import from_json as placement_from_json
from jobs.policy import Policy, QueueState, Reservation, reservation_from_json
from jobs.policy import from_json as policy_from_json
from jobs.spec import JobSpec, from_json, to_json

ABANDONED = "abandoned"  # the step at which a start ends when launcher or daemon died before *go*: nothing ran


@dataclass(frozen=True, slots=True)
class Owner:
    """Who submitted, as the kernel said (SO_PEERCRED, SO_PEERGROUPS). Never what the client said."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """The kernel's own counters, read after the exit (or live). Zero where the host has no such counter."""

    cpu_s: float = 0.0
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    memory_bytes: int = 0  # current
    memory_peak_bytes: int = 0
    oom_kills: int = 0
    pids: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0
    cpu_wait_s: float = 0.0  # pressure (PSI): while at least one of its tasks could not go on for want of a CPU,
    memory_wait_s: float = 0.0  # of memory (reclaim, refaults, swap),
    io_wait_s: float = 0.0  # of a disk
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    dropped_bytes: int = 0  # of output, because the disk was full


@dataclass(frozen=True, slots=True)
class Event:
    kind: ClassVar[str] = ""
    job: int


@dataclass(frozen=True, slots=True)
class Submitted(Event):
    kind = "submitted"
    spec: JobSpec
    owner: Owner
    at: float
    hold: bool = False
    request_id: str = ""
    spec_digest: str = ""  # sha256 of the TOML text, hex
    needs: tuple[Need, ...] = ()  # what it waits for


@dataclass(frozen=True, slots=True)
class TaskMade(Event):
    """A task of an array becomes a job of its own; in the same entry as `TaskBegun` and the placement."""

    kind = "task_made"
    array: int  # the array's job
    index: int
    at: float


@dataclass(frozen=True, slots=True)
class TaskBegun(Event):
    """Of the array: one index less is pending."""

    kind = "task_begun"
    index: int
    task: int  # its job
    at: float


@dataclass(frozen=True, slots=True)
class TaskEnded(Event):
    """Of the array, in the same entry as the task's own end."""

    kind = "task_ended"
    index: int
    task: int
    good: bool  # completed
    status: int  # exit status
    at: float


@dataclass(frozen=True, slots=True)
class TasksDropped(Event):
    """Of the array: these indexes were pending and will never begin."""

    kind = "tasks_dropped"
    indexes: tuple[int, ...]
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class HoldReleased(Event):
    kind = "hold_released"
    by: str  # "owner" | "operator"


@dataclass(frozen=True, slots=True)
class Placed(Event):
    """Committed before the host is touched."""

    kind = "placed"
    execution: str
    placement: Placement
    at: float


@dataclass(frozen=True, slots=True)
class Started(Event):
    """execve of the job's program succeeded."""

    kind = "started"
    execution: str
    at: float
    address: str = ""
    freezer: str = ""  # "v1" | "v2"
    carriers: tuple[str, ...] = ()  # what carries the network class: "nftables" | "bpf", "net_prio", "net_cls"
    notes: tuple[str, ...] = ()  # what was asked for and this host cannot do, in words


@dataclass(frozen=True, slots=True)
class StartFailed(Event):
    """The program did not run. `requeue`: through no fault of the job's, so it is tried again as a new attempt."""

    kind = "start_failed"
    execution: str
    step: str
    errno: int
    path: str
    message: str
    at: float
    requeue: bool = False


@dataclass(frozen=True, slots=True)
class PauseRequested(Event):
    kind = "pause_requested"
    by: str  # "owner" | "operator"
    keep_cpus: bool = False


@dataclass(frozen=True, slots=True)
class ResumeRequested(Event):
    kind = "resume_requested"
    by: str


@dataclass(frozen=True, slots=True)
class Preempted(Event):
    """A more urgent job, `by`, needs its CPUs: it is frozen, or with `requeue` ended and queued again.

    `resident_bytes` is what the choice counted on as staying resident."""

    kind = "preempted"
    execution: str
    by: int
    resident_bytes: int
    at: float
    requeue: bool = False


@dataclass(frozen=True, slots=True)
class Frozen(Event):
    """The kernel agrees that every task stands still. `took_s` from the write to the agreement."""

    kind = "frozen"
    execution: str
    took_s: float
    ran_s: float
    resident_bytes: int
    at: float


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """The signal that goes before the time limit or the deadline was sent."""

    kind = "warned"
    execution: str
    signal: str
    at: float


@dataclass(frozen=True, slots=True)
class FreezeFailed(Event):
    """Not frozen within the deadline; undone, the job runs on and the pause request is dropped."""

    kind = "freeze_failed"
    execution: str
    reason: str
    took_s: float
    at: float


@dataclass(frozen=True, slots=True)
class ThawPlaced(Event):
    """CPUs are reserved again before the thaw; the node writes cpuset and weights, then thaws."""

    kind = "thaw_placed"
    execution: str
    placement: Placement
    at: float


@dataclass(frozen=True, slots=True)
class Thawed(Event):
    kind = "thawed"
    execution: str
    took_s: float
    at: float


@dataclass(frozen=True, slots=True)
class PriorityChanged(Event):
    """A field that is None stays as it is."""

    kind = "priority_changed"
    urgency: int | None = None
    cpu_weight: int | None = None
    io_weight: int | None = None
    network_class: str | None = None


@dataclass(frozen=True, slots=True)
class CancelRequested(Event):
    """`signal` without SIG; after `grace_s` the job is killed."""

    kind = "cancel_requested"
    by: str  # "owner" | "operator" | "time_limit" | "deadline" | "preemption" | "dependency"
    signal: str
    grace_s: float
    at: float = 0.0
    reason: str = ""  # where there is more to say than by whom


@dataclass(frozen=True, slots=True)
class Exited(Event):
    """The program ended. `status` is wait(2)'s, decoded: exit code 0–255 or 128 + signal.

    `cause`: "" | "oom" | "time_limit" | "deadline" | "cancelled".
    """

    kind = "exited"
    execution: str
    status: int
    cause: str
    ran_s: float
    usage: Usage
    at: float


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """Marker without exit record and without processes: what became of it is not known."""

    kind = "lost"
    execution: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class CleanedUp(Event):
    """The node has let go of everything; `leftovers` names what it could not."""

    kind = "cleaned_up"
    execution: str
    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    """What the host could give from then on, and who decided: evidence for answers about the past. `job` is 0."""

    kind = "daemon_started"
    version: str  # of the product
    decide_version: int
    topology: Topology
    reserve_bytes: int  # kept for the host
    max_jobs: int
    node_id: str
    at: float


@dataclass(frozen=True, slots=True)
class PolicyEvent(Event):
    """Of the operators' policy and of no job: `job` is 0. Meaning: jobs/policy_changes."""


@dataclass(frozen=True, slots=True)
class PolicyChanged(PolicyEvent):
    """What the policy file says from now on."""

    kind = "policy_changed"
    policy: Policy
    at: float
    by: str = ""  # "": the daemon, at its start


@dataclass(frozen=True, slots=True)
class QueueChanged(PolicyEvent):
    kind = "queue_changed"
    name: str
    state: QueueState
    at: float
    by: str = ""


@dataclass(frozen=True, slots=True)
class ReservationAdded(PolicyEvent):
    kind = "reservation_added"
    reservation: Reservation
    at: float
    by: str = ""


@dataclass(frozen=True, slots=True)
class ReservationRemoved(PolicyEvent):
    kind = "reservation_removed"
    name: str
    at: float
    by: str = ""


KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        Submitted, TaskMade, TaskBegun, TaskEnded, TasksDropped, HoldReleased, Placed, Started, StartFailed,
        PauseRequested, ResumeRequested, Preempted, Frozen, FreezeFailed, ThawPlaced, Thawed, Warned, PriorityChanged,
        CancelRequested, Exited, Lost, CleanedUp, PolicyChanged, QueueChanged, ReservationAdded, ReservationRemoved,
        DaemonStarted,
    )
}  # fmt: skip


def dump(event: Event) -> dict[str, Any]:
    """Only JSON types inside, with the key `kind`."""
    data = asdict(event)
    if isinstance(event, Submitted):
        data["spec"] = to_json(event.spec)
    return {"kind": event.kind, **data}


def load(data: dict[str, Any]) -> Event:
    """Inverse of `dump`. Raises KeyError on an unknown kind, TypeError on unknown or missing keys (a later version)."""
    cls = KINDS[data["kind"]]
    values = {key: value for key, value in data.items() if key != "kind"}
    if "spec" in values:
        values["spec"] = from_json(values["spec"])
    if "owner" in values:
        values["owner"] = Owner(**{**values["owner"], "groups": tuple(values["owner"]["groups"])})
    if "placement" in values:
        values["placement"] = placement_from_json(values["placement"])
    if "usage" in values:
        values["usage"] = Usage(**values["usage"])
    if "needs" in values:
        values["needs"] = tuple(need_from_json(need) for need in values["needs"])
    if "policy" in values:
        values["policy"] = policy_from_json(values["policy"])
    if "topology" in values:
        values["topology"] = topology_from_json(values["topology"])
    if "reservation" in values:
        values["reservation"] = reservation_from_json(values["reservation"])
    for name in ("leftovers", "carriers", "notes", "indexes"):
        if name in values:
            values[name] = tuple(values[name])
    return cls(**values)
