"""From the checked document to a JobSpec: paths become absolute, absent keys become the defaults. Daemon only."""

from __future__ import annotations

import posixpath
import pwd
from dataclasses import dataclass

from jobs import spec
from jobs.events import Owner
from jobs.specfile_keys import mount_target
from jobs.specfile_model import Depends, Document, Mount, Resources, Variant
from jobs.specfile_model import Retry as RetryTable
from jobs.specfile_problems import Found
from jobs.specfile_values import Refused, show
from jobs.units import render_duration, render_size


@dataclass(frozen=True, slots=True)
class Place:
    """Where the spec lies, where the submitter stood, and who it is."""

    folder: str
    submitted_from: str
    owner: Owner | None


def build(document: Document, place: Place) -> tuple[spec.JobSpec, list[Found]]:
    """The spec, and what is wrong with it in this place."""
    found = _of_submit_dir(document, place) + _of_end(document) + _of_retry(document)
    mounts = []
    for position, mount in enumerate(document.mounts):
        try:
            mounts.append(spec.Mount(_source(mount, place), mount.target, mount.mode))
        except Refused as error:
            found.append(Found(("mounts", position, "source"), error.message, error.hint))
    return _spec(document, place, tuple(mounts)), found


def _spec(document: Document, place: Place, mounts: tuple[spec.Mount, ...]) -> spec.JobSpec:
    network = document.network
    return spec.JobSpec(
        name=document.name,
        command=document.command or (),
        script=document.script or "",
        workdir=document.workdir or "",
        run_as=document.run_as,
        submit_dir=document.submit_dir,
        priority=document.priority,
        time_limit_s=document.time_limit or 0.0,
        on_lost=document.on_lost,
        stop=spec.Stop(document.stop.signal, document.stop.grace),
        env=tuple(document.env.items()),
        image=spec.Image(document.image.source, document.image.writable),
        resources=_resources(document.resources),
        numa=document.placement.numa,
        cores=document.placement.cores,
        network=spec.Network(network.mode, network.priority_class, network.publish, network.rate or 0),
        mounts=mounts,
        queue=document.queue,
        account=document.account or "",
        freeze_with=document.freeze_with or "",
        depends=_depends(document.depends),
        array=document.array,
        submitted_from=place.submitted_from,
        version=document.version,
        begin=document.begin or spec.Moment(),
        deadline=document.deadline or spec.Moment(),
        warn=spec.Warn(document.warn.signal, document.warn.before),
        retry=_retry(document.retry),
        checkpoint_exit_code=document.checkpoint_exit_code or 0,
        variants=tuple(_variant(document, each) for each in document.variant),
    )


def _depends(given: Depends) -> spec.Depends:
    return spec.Depends(
        given.after, given.afterok, given.afternotok, given.afterany, given.aftercorr, given.singleton, given.on_never
    )


def _resources(given: Resources) -> spec.Resources:
    io = given.io
    return spec.Resources(
        cpus=given.cpus,
        memory_bytes=given.memory,
        memory_high_bytes=given.memory_high,
        memory_min_bytes=given.memory_min,
        swap_bytes=given.swap,
        pids=given.pids,
        cpu_weight=given.cpu_weight,
        io=spec.Io(io.weight, io.read or spec.UNLIMITED, io.write or spec.UNLIMITED),
        hugepages=given.hugepages,
        devices=given.devices,
        generic=tuple((name, count) for name, count in given.generic if count),
    )


def _variant(document: Document, given: Variant) -> spec.Variant:
    """Whole: what it leaves out is as in the spec; of huge pages and generic resources, size by size, name by name."""
    under, over = document.resources, given.resources.model_dump(exclude_unset=True)
    for key in ("hugepages", "generic"):
        if key in over:
            over[key] = tuple(sorted((dict(getattr(under, key)) | dict(over[key])).items()))
    return spec.Variant(
        _resources(under.model_copy(update=over)),
        given.placement.numa or document.placement.numa,
        given.placement.cores or document.placement.cores,
    )


def _retry(given: RetryTable) -> spec.Retry:
    return spec.Retry(
        most=given.most,
        on=given.on,
        backoff_s=given.backoff,
        factor=given.factor,
        backoff_most_s=given.backoff_most,
        memory_factor=given.memory_factor,
        memory_most_bytes=given.memory_most,
        crash_limit=given.crash_limit,
        crash_within_s=given.crash_within,
    )


def _of_end(document: Document) -> list[Found]:
    """Begin, time limit, deadline and warning against each other."""
    found, before = [], document.warn.before
    limit_s, begin, deadline = document.time_limit or 0.0, document.begin, document.deadline
    if before and not limit_s and not deadline:
        found.append(Found(("warn", "before"), "needs a time_limit or a deadline; there is none", "give one of them"))
    if limit_s and before >= limit_s:
        message = f"is {render_duration(before)}; needs less than time_limit, which is {render_duration(limit_s)}"
        found.append(Found(("warn", "before"), message))
    same_kind = begin and deadline and bool(begin.at) == bool(deadline.at)
    if begin and deadline and same_kind and begin.of(0.0) + limit_s > deadline.of(0.0):
        message = "needs to lie after begin" + (f" by {render_duration(limit_s)}, the time_limit" if limit_s else "")
        found.append(Found(("deadline",), message, "move one of them"))
    return found


def _of_retry(document: Document) -> list[Found]:
    retry, memory = document.retry, document.resources.memory
    if retry.memory_factor > 1 and not retry.memory_most:
        return [Found(("retry", "memory_factor"), "needs memory_most", 'for example memory_most = "16GiB"')]
    if retry.memory_most and retry.memory_most < memory:
        message = f"is less than resources.memory, which is {render_size(memory)}"
        return [Found(("retry", "memory_most"), message, "raise it")]
    return []


def _source(mount: Mount, place: Place) -> str:
    """Absolute. ".." stays: where it leads is the kernel's word, asked with the submitter's rights."""
    source = mount.source
    if source == "~" or source.startswith("~/"):
        source = _home(place.owner) + source[1:]
    elif source.startswith("~"):
        raise Refused(f"{show(source)} is not possible; ~name is not known here", hint="write the path itself")
    return posixpath.join(place.folder, source)


def _home(owner: Owner | None) -> str:
    try:
        if owner is not None:
            return pwd.getpwuid(owner.uid).pw_dir
    except KeyError:
        pass
    raise Refused("'~' is not possible; the submitter has no home that this host knows", hint="write the path itself")


def _of_submit_dir(document: Document, place: Place) -> list[Found]:
    """The folder of submission is a mount like any other, at its own path."""
    if document.submit_dir == "none":
        return []
    try:
        bound = mount_target(place.submitted_from)
    except Refused as error:
        return [Found(("submit_dir",), error.message, "submit from another folder")]
    return [
        Found(
            ("mounts", position, "target"), f"{show(bound)} is already the folder of submission", "drop one of the two"
        )
        for position, mount in enumerate(document.mounts)
        if mount.target == bound
    ]
