"""The tables of a spec as pydantic models: which key exists, what it may hold, its default as one writes it in TOML.

The JSON Schema and docs/reference/spec.md are made of these models, so each field has a description. Daemon only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from jobs import spec
from jobs import specfile_keys as keys
from jobs import specfile_life as life
from jobs import specfile_values as values
from jobs.array import Array
from jobs.priority_class import PriorityClass

_STRING: dict[str, Any] = {"type": "string"}
_SIZE: dict[str, Any] = {
    "type": ["string", "integer"],
    "pattern": r"^[0-9]+(\.[0-9]+)?\s*[KMGTkmgt]?[Ii]?[Bb]?$",
    "minimum": 0,
}
_DURATION: dict[str, Any] = {
    "type": ["string", "number"], "pattern": r"^([0-9]+(\.[0-9]+)?\s*(ms|min|[smhdw])?\s*)+$", "minimum": 0,
}  # fmt: skip
_BYTE_RATE: dict[str, Any] = {**_SIZE, "pattern": r"^[0-9]+(\.[0-9]+)?\s*[KMGTkmgt]?[Ii]?[Bb]?(/s)?$"}
_BIT_RATE: dict[str, Any] = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*[kmgt]?bit$"}
_PATH: dict[str, Any] = {"type": "string", "pattern": "^/"}
_MOMENT: dict[str, Any] = {"type": "string", "pattern": r"^(\+|[0-9]{4}-[0-9]{2}-[0-9]{2})"}
_FACTOR: dict[str, Any] = {"type": "number", "minimum": 1, "maximum": life.MOST_FACTOR}
_PROGRAM_MIN = 1 << 20
_FILESYSTEM_MIN = 1 << 20  # runtime/images/uppers.LEAST_BYTES; tests/unit/jobs/test_specfile.py compares


def _default(written: object, description: str) -> Any:
    """A default as one would write it in TOML; validate_default gives it its unit."""
    return Field(written, description=description)


def _words(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


def _integer(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


def _no_two_ports(given: tuple[spec.Publish, ...]) -> tuple[spec.Publish, ...]:
    values.unique([f"{item.host_port}/{item.protocol}" for item in given], "port of the host")
    return given


def _no_two_targets(given: tuple[Mount, ...]) -> tuple[Mount, ...]:
    try:
        values.unique([item.target for item in given], "target")
    except values.Refused as error:
        raise values.Refused(error.message, below=(*error.below, "target")) from None
    return given


def _no_two_devices(given: tuple[str, ...]) -> tuple[str, ...]:
    values.unique(given, "device")
    return given


def _few_variants(given: tuple[Variant, ...]) -> tuple[Variant, ...]:
    if len(given) > keys.MOST_VARIANTS:
        raise values.Refused(f"{len(given)} variants are too many; at most {keys.MOST_VARIANTS}")
    return given


Weight = Annotated[int, PlainValidator(values.whole(1, 10000)), WithJsonSchema(_integer(1, 10000))]
ByteRate = Annotated[int, PlainValidator(values.byte_rate), WithJsonSchema(_BYTE_RATE)]
Device = Annotated[str, PlainValidator(keys.device), WithJsonSchema({"type": "string", "pattern": "^/dev/"})]
Port = Annotated[
    spec.Publish,
    PlainValidator(keys.publish),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,5}:[0-9]{1,5}(/(tcp|udp))?$"}),
]
EnvName = Annotated[str, PlainValidator(keys.env_name), WithJsonSchema(_STRING)]
EnvValue = Annotated[str, PlainValidator(keys.env_value), WithJsonSchema(_STRING)]


class Table(BaseModel):
    """Unknown keys are errors; defaults go through the same checks as given values."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Stop(Table):
    signal: Annotated[str, PlainValidator(keys.stop_signal), WithJsonSchema(_STRING)] = Field(
        "TERM", description="First signal of `jobs cancel` and of the time limit; with or without SIG."
    )
    grace: Annotated[float, PlainValidator(values.duration), WithJsonSchema(_DURATION)] = _default(
        "30s", "Time between that signal and SIGKILL."
    )


class Image(Table):
    source: Annotated[str, PlainValidator(keys.image_source), WithJsonSchema(_STRING)] = Field(
        "host",
        description='Root filesystem: "host" (the host\'s root, read-only under an overlay), "dir:/path", or the name '
        "of an image from `jobs image import`.",
    )
    writable: Annotated[
        int,
        PlainValidator(values.size(_FILESYSTEM_MIN, "it is a filesystem of its own")),
        WithJsonSchema(_SIZE),
    ] = _default("2GiB", "Most that the job may write into its root; beyond it the disk is full.")


class Io(Table):
    weight: Weight = Field(100, description="Share of disk time against other jobs.")
    read: ByteRate | None = Field(None, description="Most bytes read from disks in a second; absent: no limit.")
    write: ByteRate | None = Field(None, description="Most bytes written to disks in a second; absent: no limit.")


Cpus = Annotated[
    float,
    PlainValidator(keys.cpus),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": keys.MOST_CPUS, "multipleOf": 0.01}),
]
Memory = Annotated[int, PlainValidator(values.size(_PROGRAM_MIN, "no program starts in less")), WithJsonSchema(_SIZE)]
Size = Annotated[int, PlainValidator(values.size(0, "")), WithJsonSchema(_SIZE)]
Pids = Annotated[int, PlainValidator(values.whole(1, keys.MOST_PIDS)), WithJsonSchema(_integer(1, keys.MOST_PIDS))]
Hugepages = Annotated[
    tuple[tuple[int, int], ...],
    PlainValidator(keys.hugepages),
    WithJsonSchema({"type": "object", "additionalProperties": _integer(0, 1 << 30)}),
]
Devices = Annotated[tuple[Device, ...], AfterValidator(_no_two_devices)]
GenericCounts = Annotated[
    tuple[tuple[str, int], ...],
    PlainValidator(keys.generic),
    WithJsonSchema({"type": "object", "additionalProperties": _integer(0, keys.MOST_GENERIC)}),
]
Numa = Annotated[
    Literal["local", "spread", "any"] | tuple[int, ...],
    PlainValidator(keys.numa),
    WithJsonSchema(
        {"anyOf": [_words("local", "spread", "any"), {"type": "array", "items": _integer(0, 1023), "minItems": 1}]}
    ),
]
Cores = Annotated[
    Literal["shared", "whole"],
    PlainValidator(values.choice("shared", "whole")),
    WithJsonSchema(_words("shared", "whole")),
]


class Resources(Table):
    cpus: Cpus = Field(1, description="A whole number pins that many CPUs to the job alone; a fraction shares CPUs.")
    memory: Memory = _default("1GiB", "Most memory; beyond it the whole job is killed.")
    memory_high: Size = _default(
        "0", "From here on the job is slowed down and its memory taken back, before it is killed; 0: never. cgroup v2."
    )
    memory_min: Size = _default(
        "0", "As much of its memory, page cache too, is never taken back for others. cgroup v2."
    )
    swap: Size = _default("0", "Swap space on top of the memory.")
    pids: Pids = Field(4096, description="Most processes and threads.")
    cpu_weight: Weight = Field(100, description="Share of CPU time against other jobs on the same CPUs.")
    io: Io = Field(default_factory=lambda: Io.model_validate({}), description="Shares and limits of disk traffic.")
    hugepages: Hugepages = _default({}, 'Huge pages by size, for example { "2MiB" = 64 }.')
    devices: Devices = Field((), description="Device nodes of the host that the job may open, for example /dev/fuse.")
    generic: GenericCounts = _default(
        {}, "Resources that the host's operator named, GPUs or licences, for example { gpu = 1 }."
    )


class Placement(Table):
    numa: Numa = Field(
        "local",
        description="Memory nodes: as few as possible (local), as many as possible with pages going round them "
        "(spread), any, or a list.",
    )
    cores: Cores = Field(
        "shared",
        description="Whether another job may get another hardware thread of a core that this one uses (shared), or "
        "not (whole): a thread left over on its last core then stays idle and counts as given to it. "
        "whole needs a whole number of cpus.",
    )


class VariantResources(Table):
    """What may differ; an absent key is as in [resources]."""

    cpus: Cpus | None = Field(None, description="Instead of resources.cpus; absent keys are as there.")
    memory: Memory | None = Field(None, description="Instead of resources.memory.")
    memory_high: Size | None = Field(None, description="Instead of resources.memory_high.")
    memory_min: Size | None = Field(None, description="Instead of resources.memory_min.")
    swap: Size | None = Field(None, description="Instead of resources.swap.")
    pids: Pids | None = Field(None, description="Instead of resources.pids.")
    hugepages: Hugepages | None = Field(None, description="Page size by page size; 0: none of these.")
    devices: Devices | None = Field(None, description="Instead of resources.devices.")
    generic: GenericCounts | None = Field(None, description="Name by name; 0: none of these.")


class VariantPlacement(Table):
    numa: Numa | None = Field(None, description="Instead of placement.numa.")
    cores: Cores | None = Field(None, description="Instead of placement.cores.")


class Variant(Table):
    """Another way to run the job, tried where it finds no room as it stands; of several, in their order."""

    resources: VariantResources = Field(
        default_factory=lambda: VariantResources.model_validate({}), description="What differs of the resources."
    )
    placement: VariantPlacement = Field(
        default_factory=lambda: VariantPlacement.model_validate({}), description="What differs of the placement."
    )


class Network(Table):
    mode: Annotated[
        Literal["bridge", "host", "none"],
        PlainValidator(values.choice("bridge", "host", "none")),
        WithJsonSchema(_words("bridge", "host", "none")),
    ] = Field("bridge", description="An address of its own behind the bridge, the host's network, or loopback only.")
    priority_class: Annotated[
        PriorityClass,
        BeforeValidator(values.choice(*PriorityClass)),
        WithJsonSchema(_words(*PriorityClass)),
    ] = _default("normal", "Which packets go first where the uplink is full.")
    publish: Annotated[tuple[Port, ...], AfterValidator(_no_two_ports)] = Field(
        (), description='Ports of the host that lead to the job: "HOST:JOB/tcp" or "/udp". Needs mode = "bridge".'
    )
    rate: Annotated[int, PlainValidator(values.bit_rate), WithJsonSchema(_BIT_RATE)] | None = Field(
        None, description='Most bits a second, for example "100mbit"; absent: no limit. Needs mode = "bridge".'
    )


class Mount(Table):
    source: Annotated[str, PlainValidator(keys.mount_source), WithJsonSchema(_STRING)] = Field(
        description="Folder or file of the host; relative to the spec's folder; ~/ is the submitter's home."
    )
    target: Annotated[str, PlainValidator(keys.mount_target), WithJsonSchema(_PATH)] = Field(
        description="Where the job sees it: an absolute path outside /proc, /sys and /dev."
    )
    mode: Annotated[
        Literal["ro", "rw"], PlainValidator(values.choice("ro", "rw")), WithJsonSchema(_words("ro", "rw"))
    ] = Field("ro", description="Read-only, or writable with the submitter's own rights.")


Wanted = Annotated[
    spec.Wanted,
    PlainValidator(keys.waited_for),
    WithJsonSchema({"type": "array", "items": {"type": ["string", "integer"]}}),
]


class Depends(Table):
    after: Wanted = _default(
        [],
        "Starts after these jobs have begun, or ended without. Each is the id of a job, or a name: of a job "
        "in the same file, else of your newest job of that name.",
    )
    afterok: Wanted = _default([], "Starts after these jobs have completed.")
    afternotok: Wanted = _default([], "Starts after these jobs have ended, but not completed.")
    afterany: Wanted = _default([], "Starts after these jobs have ended, however.")
    aftercorr: Wanted = _default(
        [], "For an array: each task starts after the task of the same index of these arrays has completed."
    )
    singleton: Annotated[bool, PlainValidator(values.boolean), WithJsonSchema({"type": "boolean"})] = Field(
        False, description="Starts after all your earlier jobs of the same name have ended."
    )
    on_never: Annotated[
        Literal["cancel", "wait"],
        PlainValidator(values.choice("cancel", "wait")),
        WithJsonSchema(_words("cancel", "wait")),
    ] = Field("cancel", description="What happens to a job whose dependencies can never hold.")


class Warn(Table):
    signal: Annotated[str, PlainValidator(life.warn_signal), WithJsonSchema(_STRING)] = Field(
        "USR1", description="The signal, to every process of the job; with or without SIG."
    )
    before: Annotated[float, PlainValidator(values.duration), WithJsonSchema(_DURATION)] = _default(
        "0s",
        "So long before the time limit or the deadline, whichever comes first, in running time; 0: no warning.",
    )


class Retry(Table):
    most: Annotated[int, PlainValidator(values.whole(0, 10000)), WithJsonSchema(_integer(0, 10000))] = Field(
        0, description="Most further attempts after failures; 0: none."
    )
    on: Annotated[
        tuple[str | int, ...],
        PlainValidator(life.retry_on),
        WithJsonSchema({"type": "array", "items": {"type": ["string", "integer"]}}),
    ] = _default(
        ["exit", "signal", "oom"],
        "Which ends count as failures to try again after: exit (any exit code but 0), signal (any), oom (killed for "
        'want of memory), start (the container could not be made), exit codes such as 75, signals such as "SEGV".',
    )
    backoff: Annotated[float, PlainValidator(values.duration), WithJsonSchema(_DURATION)] = _default(
        "10s", "Pause before the first retry; up to a quarter of it is taken off, differently for each job."
    )
    factor: Annotated[float, PlainValidator(life.factor), WithJsonSchema(_FACTOR)] = Field(
        2, description="Each further pause is so many times the one before."
    )
    backoff_most: Annotated[float, PlainValidator(values.duration), WithJsonSchema(_DURATION)] = _default(
        "10min", "Longest pause."
    )
    memory_factor: Annotated[float, PlainValidator(life.factor), WithJsonSchema(_FACTOR)] = Field(
        1, description="After an oom the next attempt gets so many times the memory; needs memory_most."
    )
    memory_most: Annotated[int, PlainValidator(values.size(0, "")), WithJsonSchema(_SIZE)] = _default(
        "0", "Most memory that memory_factor may lead to; an oom with so much is not tried again."
    )
    crash_limit: Annotated[int, PlainValidator(values.whole(0, 10000)), WithJsonSchema(_integer(0, 10000))] = Field(
        100, description="So many attempts in a row, each shorter than crash_within, end the job; 0: no limit."
    )
    crash_within: Annotated[float, PlainValidator(values.duration), WithJsonSchema(_DURATION)] = _default(
        "10s", "What is a short attempt, in running time."
    )


class Document(Table):
    """A whole spec. Exactly one of command and script is given (specfile_rules)."""

    version: Annotated[
        int,
        PlainValidator(keys.version),
        WithJsonSchema({"const": spec.SPEC_VERSION}),
    ] = Field(spec.SPEC_VERSION, description="Version of this format.")
    name: Annotated[
        str, PlainValidator(keys.name), WithJsonSchema({"type": "string", "pattern": f"^{keys.NAME.pattern}$"})
    ] = Field(description="Name of the job; other jobs of the same user reach it by this name.")
    command: (
        Annotated[
            tuple[str, ...],
            PlainValidator(keys.command),
            WithJsonSchema({"type": "array", "items": _STRING, "minItems": 1}),
        ]
        | None
    ) = Field(None, description="The program and its arguments; no shell reads them.")
    script: Annotated[str, PlainValidator(keys.script), WithJsonSchema(_STRING)] | None = Field(
        None, description="The text of a program instead of a command; without a first line #!… it is for /bin/sh."
    )
    workdir: Annotated[str, PlainValidator(keys.workdir), WithJsonSchema(_PATH)] | None = Field(
        None, description="Working directory inside the job; absent: the folder of submission when bound, else /."
    )
    run_as: Annotated[
        str,
        PlainValidator(keys.run_as),
        WithJsonSchema({"type": ["string", "integer"], "pattern": "^(me|root|[0-9]+)$"}),
    ] = Field(
        "me",
        description='"me": the submitter\'s own uid and gids inside the job; "root": root of the job\'s own namespace '
        "only; or a uid.",
    )
    submit_dir: Annotated[
        Literal["none", "ro", "rw"],
        PlainValidator(values.choice("none", "ro", "rw")),
        WithJsonSchema(_words("none", "ro", "rw")),
    ] = Field("none", description="Binds the folder of submission at the same path, read-only or writable.")
    priority: Annotated[int, PlainValidator(values.whole(0, 100)), WithJsonSchema(_integer(0, 100))] = Field(
        50, description="Urgency; higher starts first."
    )
    queue: Annotated[
        str, PlainValidator(keys.name), WithJsonSchema({"type": "string", "pattern": f"^{keys.NAME.pattern}$"})
    ] = Field("default", description="The queue it waits in: `jobs queue list`.")
    account: (
        Annotated[
            str,
            PlainValidator(keys.account),
            WithJsonSchema({"type": "string", "pattern": f"^{keys.ACCOUNT.pattern}$"}),
        ]
        | None
    ) = Field(
        None,
        description="Whose share of the machine it uses (`jobs share`); absent: the first account that lists you, else "
        "one of your own.",
    )
    time_limit: Annotated[float, PlainValidator(values.duration), WithJsonSchema(_DURATION)] | None = Field(
        None, description="Most running time; frozen time does not count; absent: no limit."
    )
    begin: Annotated[spec.Moment, PlainValidator(life.moment), WithJsonSchema(_MOMENT)] | None = Field(
        None,
        description='Not started before: a date and time, in the host\'s time zone where it names none, or "+2h" after '
        "the submission.",
    )
    deadline: Annotated[spec.Moment, PlainValidator(life.moment), WithJsonSchema(_MOMENT)] | None = Field(
        None,
        description="Ended by then, written as begin is. A job that waits is ended as soon as its time limit no longer "
        "fits before it; one that runs is stopped.",
    )
    checkpoint_exit_code: (
        Annotated[int, PlainValidator(values.whole(1, 255)), WithJsonSchema(_integer(1, 255))] | None
    ) = Field(
        None,
        description="A program that ends with this status has saved its work and is started again at once, as a new "
        "attempt; HTCondor's custom is 85.",
    )
    on_lost: Annotated[
        Literal["fail", "requeue"],
        PlainValidator(values.choice("fail", "requeue")),
        WithJsonSchema(_words("fail", "requeue")),
    ] = Field(
        "fail", description="What happens when nobody knows how the job ended (power failure): fail, or run again."
    )
    freeze_with: (
        Annotated[
            str, PlainValidator(keys.name), WithJsonSchema({"type": "string", "pattern": f"^{keys.NAME.pattern}$"})
        ]
        | None
    ) = Field(
        None,
        description="A group: your jobs that give the same name talk to each other, so the scheduler freezes all "
        "of them or none for a more urgent job, and thaws them together.",
    )
    array: Annotated[Array, PlainValidator(keys.array), WithJsonSchema(_STRING)] | None = Field(
        None,
        description='Indexes of the tasks of an array, for example "0-99", "0-99:10" (every tenth) or "1,5,7-9"; '
        '"%20" behind them lets at most 20 tasks live at once.',
    )
    depends: Depends = Field(
        default_factory=lambda: Depends.model_validate({}), description="Which jobs come before this one."
    )
    stop: Stop = Field(default_factory=lambda: Stop.model_validate({}), description="How the job is ended.")
    warn: Warn = Field(default_factory=lambda: Warn.model_validate({}), description="A signal before the end.")
    retry: Retry = Field(default_factory=lambda: Retry.model_validate({}), description="What follows a failure.")
    env: dict[EnvName, EnvValue] = Field({}, description='Environment variables: NAME = "value", always strings.')
    image: Image = Field(default_factory=lambda: Image.model_validate({}), description="The root filesystem.")
    resources: Resources = Field(
        default_factory=lambda: Resources.model_validate({}), description="What the job gets, and its limits."
    )
    placement: Placement = Field(default_factory=lambda: Placement.model_validate({}), description="Where it runs.")
    variant: Annotated[tuple[Variant, ...], AfterValidator(_few_variants)] = Field(
        (), description="Other ways to run it, tried in this order where it finds no room as it stands."
    )
    network: Network = Field(default_factory=lambda: Network.model_validate({}), description="Its network.")
    mounts: Annotated[tuple[Mount, ...], AfterValidator(_no_two_targets)] = Field(
        (), description="Folders and files of the host inside the job."
    )
