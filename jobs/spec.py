"""What a user asked for: frozen dataclasses, all units resolved (bytes, seconds, bits a second). Pure.

`jobs/specfile` makes a JobSpec of TOML; `to_json`/`from_json` carry it in the journal and to the launcher side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from jobs.array import Array
from jobs.policy import DEFAULT_QUEUE
from jobs.priority_class import PriorityClass

SPEC_VERSION = 1
UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Stop:
    signal: str = "TERM"  # name without SIG
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Image:
    source: str = "host"  # "host" | "dir:/path" | the name of an imported image
    writable_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Io:
    weight: int = 100  # 1–10000, as io.weight
    read_bytes_s: int = UNLIMITED
    write_bytes_s: int = UNLIMITED


@dataclass(frozen=True, slots=True)
class Resources:
    cpus: float = 1.0  # whole: pinned and exclusive; with a fraction: shares of the pool
    memory_bytes: int = 1 << 30
    memory_high_bytes: int = 0  # throttled and reclaimed from here on; 0: never
    memory_min_bytes: int = 0  # not reclaimed for others
    swap_bytes: int = 0
    pids: int = 4096
    cpu_weight: int = 100  # 1–10000, as cpu.weight
    io: Io = Io()
    hugepages: tuple[tuple[int, int], ...] = ()  # (page size in bytes, pages)
    devices: tuple[str, ...] = ()
    generic: tuple[tuple[str, int], ...] = ()  # (name, how many): GPUs, licences; what there is says the host

    @property
    def whole_cpus(self) -> bool:
        return self.cpus == int(self.cpus)


@dataclass(frozen=True, slots=True)
class Publish:
    host_port: int
    job_port: int
    protocol: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True, slots=True)
class Network:
    mode: Literal["bridge", "host", "none"] = "bridge"
    priority_class: PriorityClass = PriorityClass.NORMAL
    publish: tuple[Publish, ...] = ()
    rate_bits_s: int = 0  # 0: no limit


@dataclass(frozen=True, slots=True)
class Mount:
    source: str  # absolute by now
    target: str
    mode: Literal["ro", "rw"] = "ro"


Wanted = tuple[int | str, ...]  # ids, or names: of a job in the same file, else the submitter's newest of that name


@dataclass(frozen=True, slots=True)
class Depends:
    """What must have happened to other jobs before this one may start."""

    after: Wanted = ()  # has begun, or ended without
    afterok: Wanted = ()  # completed
    afternotok: Wanted = ()  # ended otherwise
    afterany: Wanted = ()  # ended
    aftercorr: Wanted = ()  # an array: each task after the task of the same index completed
    singleton: bool = False  # all earlier jobs of this name of the same user have ended
    on_never: Literal["cancel", "wait"] = "cancel"  # when it can never hold


@dataclass(frozen=True, slots=True)
class Moment:
    """Wall time: `at` in seconds since 1970, or so many seconds after the submission; both 0: none."""

    at: float = 0.0
    after_s: float = 0.0

    def of(self, submitted_at: float) -> float:
        """Seconds since 1970; 0: none."""
        return submitted_at + self.after_s if self.after_s else self.at


@dataclass(frozen=True, slots=True)
class Retry:
    """What follows a failure. `on`: "exit", "signal", "oom", "start", exit codes, signals' names without SIG."""

    most: int = 0
    on: tuple[str | int, ...] = ("exit", "signal", "oom")
    backoff_s: float = 10.0  # before the first retry
    factor: float = 2.0  # of each later pause to the one before
    backoff_most_s: float = 600.0
    memory_factor: float = 1.0  # after an OOM; 1: the same memory again
    memory_most_bytes: int = 0
    crash_limit: int = 100  # so many attempts in a row, each shorter than `crash_within_s`, are the end; 0: no limit
    crash_within_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Warn:
    """A signal before the time limit or the deadline; `before_s` in running time, 0: none."""

    signal: str = "USR1"  # name without SIG
    before_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Variant:
    """Another way to run the job: whole, with what it has in common with the first."""

    resources: Resources = Resources()
    numa: Literal["local", "spread", "any"] | tuple[int, ...] = "local"
    cores: Literal["shared", "whole"] = "shared"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job. Exactly one of `command` and `script` is given."""

    name: str
    command: tuple[str, ...] = ()
    script: str = ""
    workdir: str = ""  # "": submit_dir when bound, else "/"
    run_as: str = "me"  # "me" | "root" | a decimal uid
    submit_dir: Literal["none", "ro", "rw"] = "none"
    priority: int = 50
    time_limit_s: float = 0.0  # 0: none; running time, frozen time does not count
    on_lost: Literal["fail", "requeue"] = "fail"
    stop: Stop = Stop()
    env: tuple[tuple[str, str], ...] = ()
    image: Image = Image()
    resources: Resources = Resources()
    numa: Literal["local", "spread", "any"] | tuple[int, ...] = "local"
    cores: Literal["shared", "whole"] = "shared"  # "whole": no other job on another thread of its cores
    network: Network = Network()
    mounts: tuple[Mount, ...] = ()
    queue: str = DEFAULT_QUEUE
    account: str = ""  # whose share it uses; "": the one of the submitter
    depends: Depends = Depends()
    array: Array | None = None
    submitted_from: str = ""  # the folder of submission, absolute
    version: int = SPEC_VERSION
    begin: Moment = Moment()  # not started before
    deadline: Moment = Moment()  # ended by then
    warn: Warn = Warn()
    retry: Retry = Retry()
    checkpoint_exit_code: int = 0  # this exit status asks to be started again; 0: none does
    freeze_with: str = ""  # a group of the user's jobs that the scheduler freezes and thaws together; "": none
    variants: tuple[Variant, ...] = ()  # in this order, where `resources` itself, variant 0, finds no room


def resolved(spec: JobSpec, variant: int) -> JobSpec:
    """The spec with the resources and the placement of one of its alternatives; 0 is the spec itself."""
    if not variant:
        return spec
    chosen = spec.variants[variant - 1]
    return replace(spec, resources=chosen.resources, numa=chosen.numa, cores=chosen.cores)


def to_json(spec: JobSpec) -> dict[str, Any]:
    """Only JSON types inside; tuples become lists."""
    return asdict(spec)


def from_json(data: dict[str, Any]) -> JobSpec:
    """Inverse of `to_json`. Raises TypeError or KeyError on data that this version did not write."""
    network = data["network"]
    array = data.get("array")
    return JobSpec(
        **{
            **data,
            "command": tuple(data["command"]),
            "stop": Stop(**data["stop"]),
            "env": tuple((key, value) for key, value in data["env"]),
            "image": Image(**data["image"]),
            "resources": _resources(data["resources"]),
            "numa": _numa(data["numa"]),
            "network": Network(
                **{
                    **network,
                    "priority_class": PriorityClass(network["priority_class"]),
                    "publish": tuple(Publish(**item) for item in network["publish"]),
                }
            ),
            "mounts": tuple(Mount(**item) for item in data["mounts"]),
            "depends": Depends(**_tuples(data.get("depends", {}))),
            "array": Array(tuple(map(tuple, array["ranges"])), array["at_once"]) if array else None,
            "variants": tuple(
                Variant(_resources(item["resources"]), _numa(item["numa"]), item["cores"])
                for item in data.get("variants", ())
            ),
            "begin": Moment(**data.get("begin", {})),
            "deadline": Moment(**data.get("deadline", {})),
            "warn": Warn(**data.get("warn", {})),
            "retry": Retry(**_tuples(data.get("retry", {}))),
        }
    )


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def _resources(data: dict[str, Any]) -> Resources:
    return Resources(
        **{
            **data,
            "io": Io(**data["io"]),
            "hugepages": tuple((size, count) for size, count in data["hugepages"]),
            "devices": tuple(data["devices"]),
            "generic": tuple((name, count) for name, count in data.get("generic", ())),
        }
    )


def _numa(given: Any) -> Any:
    return given if isinstance(given, str) else tuple(given)
