"""The network part of an execution as values: what a slot has, and what a job asked for. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from jobs.priority_class import PriorityClass
from jobs.spec import Publish


@dataclass(frozen=True, slots=True)
class Attachment:
    """A prepared slot's place on the bridge."""

    link: str  # the host end of the veth
    address: str
    mac: str  # of the job's end
    gateway: str


@dataclass(frozen=True, slots=True)
class Attached:
    """One execution on the bridge: everything that the tables, the hosts files and the rate are made of."""

    execution_id: str
    attachment: Attachment
    owner_uid: int
    job_name: str
    priority_class: PriorityClass
    publish: tuple[Publish, ...] = ()
    rate_bits_s: int = 0  # 0: no limit

    @property
    def address(self) -> str:
        return self.attachment.address


def to_json(attached: Attached) -> dict[str, Any]:
    """Only JSON types inside."""
    return asdict(attached)


def from_json(data: dict[str, Any]) -> Attached:
    """Inverse of `to_json`. Raises TypeError, KeyError or ValueError on anything else."""
    return Attached(
        **{
            **data,
            "attachment": Attachment(**data["attachment"]),
            "priority_class": PriorityClass(data["priority_class"]),
            "publish": tuple(Publish(**item) for item in data["publish"]),
        }
    )
