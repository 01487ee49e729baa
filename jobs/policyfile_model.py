"""The tables of a policy file as pydantic models: which key exists, what it may hold, its default. Daemon only.

docs/reference/policy.md is made of them. What each value does is said in jobs/policy.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema

from jobs import policyfile_keys as keys
from jobs import specfile_keys
from jobs import specfile_values as values
from jobs.policy import Window
from jobs.specfile_lines import Path
from jobs.specfile_model import Table

_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}
_SIZE: dict[str, Any] = {"type": ["string", "integer"], "minimum": 0}
_DURATION: dict[str, Any] = {"type": ["string", "number"], "minimum": 0}
_NAMES: dict[str, Any] = {"type": "array", "items": {"type": "string"}}

Name = Annotated[str, PlainValidator(specfile_keys.name), WithJsonSchema({"type": "string"})]
Account = Annotated[str, PlainValidator(specfile_keys.account), WithJsonSchema({"type": "string"})]
Users = Annotated[tuple[str, ...], PlainValidator(keys.names("user")), WithJsonSchema(_NAMES)]
Duration = Annotated[float, PlainValidator(values.duration), WithJsonSchema(_DURATION)]
Longer = Annotated[float, PlainValidator(keys.longer_than_zero), WithJsonSchema(_DURATION)]
Cpus = Annotated[float, PlainValidator(specfile_keys.cpus), WithJsonSchema(_NUMBER)]
Size = Annotated[int, PlainValidator(values.size(1 << 20, "no program starts in less")), WithJsonSchema(_SIZE)]
OfAWindow = Annotated[Window, PlainValidator(keys.window), WithJsonSchema({"type": "string"})]
Weight = Annotated[float, PlainValidator(keys.weight), WithJsonSchema(_NUMBER)]


def _integer(low: int, high: int) -> Any:
    return WithJsonSchema({"type": "integer", "minimum": low, "maximum": high})


def _words(*words: str) -> Any:
    return WithJsonSchema({"type": "string", "enum": list(words)})


Points = Annotated[int, PlainValidator(values.whole(-1000, 1000)), _integer(-1000, 1000)]
Few = Annotated[int, PlainValidator(values.whole(1, 1000)), _integer(1, 1000)]
Freezes = Annotated[int, PlainValidator(values.whole(0, 1 << 30)), _integer(0, 1 << 30)]
Count = Annotated[int, PlainValidator(values.whole(1, 1 << 30)), _integer(1, 1 << 30)]


def _written(written: object, description: str) -> Any:
    """A default as one would write it in TOML; validate_default gives it its unit."""
    return Field(written, description=description)


class JobLimits(Table):
    cpus: Cpus | None = Field(None, description="Most CPUs; absent: no limit.")
    memory: Size | None = Field(None, description="Most memory; absent: no limit.")


class Limits(JobLimits):
    jobs: Count | None = Field(None, description="Most jobs that own CPUs at a time; absent: no limit.")


class Queue(Table):
    points: Points = Field(0, description="Added to the urgency of its jobs.")
    preempt: Annotated[
        Literal["never", "freeze", "requeue"],
        PlainValidator(values.choice("never", "freeze", "requeue")),
        _words("never", "freeze", "requeue"),
    ] = Field("freeze", description="What its jobs may do to less urgent ones that are in their way.")
    preemptible: Annotated[bool, PlainValidator(values.boolean), WithJsonSchema({"type": "boolean"})] = Field(
        True, description="Whether its jobs may be frozen or queued again for more urgent ones."
    )
    estimate: Longer = _written(
        "1h", "How long a job without time limit is expected to run, for backfill; ends no job."
    )
    default_time_limit: Longer | None = Field(
        None, description="Time limit of a job that gives none; absent: most_time_limit."
    )
    most_time_limit: Longer | None = Field(
        None, description="Longest time limit that a job may give; absent: any, or none."
    )
    users: Users = _written([], "Who may submit to it; empty, and groups too: everybody.")
    groups: Annotated[tuple[str, ...], PlainValidator(keys.names("group")), WithJsonSchema(_NAMES)] = _written(
        [], "Groups whose members may."
    )
    windows: tuple[OfAWindow, ...] = Field(
        (),
        description='When its jobs may start, for example ["mon-fri 20:00-06:00", "sat,sun 00:00-24:00"]; '
        "empty: always.",
    )
    total: Limits = Field(default_factory=lambda: Limits.model_validate({}), description="Of the queue in all.")
    per_user: Limits = Field(default_factory=lambda: Limits.model_validate({}), description="Of each user in it.")
    per_job: JobLimits = Field(
        default_factory=lambda: JobLimits.model_validate({}), description="Of one job; a larger one is refused."
    )


class Share(Table):
    weight: Weight = Field(1, description="Against the other accounts.")
    users: Annotated[
        dict[str, float],
        PlainValidator(keys.weights),
        WithJsonSchema({"anyOf": [_NAMES, {"type": "object", "additionalProperties": _NUMBER}]}),
    ] = _written([], "Who may use it: names, or names with weights against each other, { alice = 2, bob = 1 }.")


class Reservation(Table):
    at: Annotated[datetime, PlainValidator(keys.moment), WithJsonSchema({"type": "string", "format": "date-time"})] = (
        Field(description="When it begins, for example 2027-01-31T22:00:00; without offset in the policy's time zone.")
    )
    for_: Longer = Field(alias="for", description="How long.")
    every: Longer | None = Field(None, description="Begins again after so long; absent: once.")
    cpus: Count | None = Field(None, description="How many CPUs are kept; absent: the whole host.")
    users: Users = _written([], "Whose jobs may use them; empty: nobody's, for maintenance.")


class Preemption(Table):
    margin: Few = Field(
        1, description="Points of urgency, those of the queue included, by which a job must be ahead of its victim."
    )
    least_run: Duration = _written("5s", "A job that was started or thawed is left alone for so long.")
    most_per_hour: Freezes = Field(60, description="Freezes of one job in an hour; 0: any.")


class Document(Table):
    """A whole policy file."""

    backfill: Annotated[
        Literal["off", "easy", "conservative"],
        PlainValidator(values.choice("off", "easy", "conservative")),
        _words("off", "easy", "conservative"),
    ] = Field(
        "easy",
        description="Who may pass a job that has no room: nobody; who does not delay the first such job; or any of the "
        "first.",
    )
    backfill_depth: Few = Field(20, description='How many jobs "conservative" keeps room for.')
    share_points: Annotated[float, PlainValidator(keys.share_points), WithJsonSchema({**_NUMBER, "maximum": 1000})] = (
        Field(20, description="Most that a user's standing adds to the urgency; 0 turns fair share off.")
    )
    half_life: Duration = _written("7d", "Half of what was used so long ago is forgotten; 0: nothing is.")
    share_step: Longer = _written("1m", "Between two updates of the standings.")
    timezone: Annotated[str, PlainValidator(keys.timezone), WithJsonSchema({"type": "string"})] = Field(
        "UTC", description="Of windows, and of reservations without an offset."
    )
    preemption: Preemption = Field(
        default_factory=lambda: Preemption.model_validate({}),
        description="What keeps jobs from being frozen over and over.",
    )
    queue: dict[Name, Queue] = Field({}, description='Queues by name; "default" is always there.')
    share: dict[Account, Share] = Field({}, description="Accounts by name. An account that is not here has weight 1.")
    reservation: dict[Name, Reservation] = Field({}, description="Times when CPUs are kept.")


ANY = "NAME"  # stands for a name that the operator chose
TABLES: dict[Path, type[BaseModel]] = {
    (): Document, ("preemption",): Preemption, ("queue", ANY): Queue, ("queue", ANY, "total"): Limits,
    ("queue", ANY, "per_user"): Limits, ("queue", ANY, "per_job"): JobLimits, ("share", ANY): Share,
    ("reservation", ANY): Reservation,
}  # fmt: skip
