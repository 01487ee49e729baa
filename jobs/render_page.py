"""One job, the host or a spec on a page of its own, for people. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs import cpuset
from jobs.protocol import Job
from jobs.render import Look, ending, of_tasks, phase, printable, remark
from jobs.units import render_duration, render_size


def page(job: Job, look: Look) -> str:
    """Everything of one job, for `show`."""
    said = "" if job.tasks and not job.final else remark(job)
    rows: list[tuple[str, str]] = [("state", look.paint(job.state, phase(job)) + (f"  {said}" if said else ""))]
    rows += [("why", text) for text in map(printable, job.waits_for) if text != said]
    if job.tasks:
        rows += [("tasks", of_tasks(job)), ("pending", job.pending)]
    if job.array:
        rows.append(("task", f"index {job.index} of the array {job.array}"))
    rows += [("waits for", printable(f"{need['kind']} {need['name']} ({need['job']})")) for need in job.needs
             if not (job.final or job.attempt)]  # fmt: skip
    if job.leftovers:
        rows.append(("left behind", printable(", ".join(job.leftovers))))
    rows += [
        ("owner", printable(job.owner)),
        ("queue", job.queue + (f", account {printable(job.account)}" if job.account not in ("", job.owner) else "")),
        ("submitted", _moment(job.submitted_at, look.now)),
        ("begins", _moment(job.not_before, look.now) if job.not_before > look.now and not job.final else ""),
        ("started", _moment(job.started_at, look.now)),
        ("ended", _moment(job.ended_at, look.now)),
        ("deadline", _moment(job.deadline_at, look.now)),
        ("ran", _ran(job)),
        ("ended with", "" if job.state != "completed" else ending(job)),
        ("priority", f"urgency {job.urgency}, cpu weight {job.cpu_weight}, io weight {job.io_weight}, "
                     f"network {job.network_class}{_carried(job)}"),
        ("order", order(job)),
        ("asked for", asked(job)),
        ("placed on", placed(job)),
        ("address", job.address),
    ]  # fmt: skip
    if job.attempt:
        rows += [("used", used(job)), ("pressure", pressure(job)), ("output", _output(job))]
        rows += [("note", printable(note)) for note in job.notes]
    rows += _of_spec(job.spec or {}, job)
    wide = max(len(name) for name, _ in rows)
    title = look.bold(f"job {job.written}  {printable(job.name)}")
    return "\n".join([title, *(f"  {name:<{wide}}  {value}" for name, value in rows if value)]) + _next(job, look)


def _carried(job: Job) -> str:
    return f" (by {', '.join(job.carriers)})" if job.carriers else ""


def order(job: Job) -> str:
    """`63.4 points: urgency 50, queue +10, share +2.5, age +0.9`"""
    if not job.points:
        return ""
    first, *others = job.points.items()
    return f"{sum(job.points.values()):.1f} points: {first[0]} {first[1]:g}" + "".join(
        f", {name} {round(value, 1):+g}" for name, value in others
    )


def asked(job: Job) -> str:
    generic = "".join(f", {count} {name}" for name, count in job.generic_wanted)
    cpus = f"{job.cpus_wanted:g} CPU{'' if job.cpus_wanted == 1 else 's'}"
    return f"{cpus}, {render_size(job.memory_limit_bytes)} memory{generic}"


def placed(job: Job) -> str:
    if not job.cpus:
        return ""
    how = "exclusive" if job.exclusive else "shared"
    if job.idle:
        how += f", with {cpuset.render(job.idle)} kept idle for whole cores"
    where = f"{job.node_id or 'this host'}, CPUs {cpuset.render(job.cpus)} ({how}), memory nodes"
    variant = f"as variant {job.variant}" if job.variant else ""
    return ", ".join(filter(None, (f"{where} {cpuset.render(job.mems)}", generic_of(job.generic), variant)))


def generic_of(given: Sequence[tuple[str, Sequence[int]]]) -> str:
    """`gpu 0,2, licence_solver 4`"""
    return ", ".join(f"{name} {cpuset.render(numbers)}" for name, numbers in given)


def used(job: Job) -> str:
    usage = job.usage
    text = (
        f"cpu {render_duration(usage.get('cpu_s', 0.0))} (user {render_duration(usage.get('cpu_user_s', 0.0))}, "
        f"system {render_duration(usage.get('cpu_system_s', 0.0))}), peak memory "
        f"{render_size(usage.get('memory_peak_bytes', 0))}, read {render_size(usage.get('io_read_bytes', 0))}, "
        f"written {render_size(usage.get('io_write_bytes', 0))}"
    )
    if kills := usage.get("oom_kills", 0):
        text += f"; killed for want of memory: {kills:.0f}"
    return text if job.final else f"memory {render_size(usage.get('memory_bytes', 0))}, {text}"


def pressure(job: Job) -> str:
    """How long at least one of its tasks stood waiting, and for what; "" where the host does not count it."""
    waits = [(job.usage.get(f"{name}_wait_s", 0.0), name) for name in ("cpu", "memory", "io")]
    return ", ".join(f"{render_duration(wait)} waiting for {name}" for wait, name in waits if wait)


def _output(job: Job) -> str:
    usage = job.usage
    lost = usage.get("dropped_bytes", 0)
    return f"{render_size(usage.get('stdout_bytes', 0))} stdout, {render_size(usage.get('stderr_bytes', 0))} stderr" + (
        f"; {render_size(lost)} are lost: the disk was full" if lost else ""
    )


def _ran(job: Job) -> str:
    if not job.attempt:
        return ""
    times = f", frozen {job.freezes} time{'' if job.freezes == 1 else 's'}" if job.freezes else ""
    attempt = f", attempt {job.attempt}" if job.attempt > 1 else ""
    counts = (("retry", "retries", job.retries), ("checkpoint", "checkpoints", job.checkpoints))
    counted = "".join(f", {count} {one if count == 1 else many}" for one, many, count in counts if count)
    return f"{render_duration(job.ran_s)}{times}{attempt}{counted}"


def _of_spec(spec: dict[str, Any], job: Job) -> list[tuple[str, str]]:
    if not spec:
        return []
    command = " ".join(_quoted(word) for word in spec["command"]) if spec["command"] else "(script)"
    mounts = [f"{mount['source']} at {mount['target']} ({mount['mode']})" for mount in spec["mounts"]]
    return [
        ("command", printable(command)),
        ("image", printable(spec["image"]["source"])),
        ("network", spec["network"]["mode"]),
        *(("mount", printable(mount)) for mount in mounts),
        ("time limit", render_duration(spec["time_limit_s"]) if spec["time_limit_s"] else ""),
        ("warning", _warning(spec.get("warn", {}), job)),
        ("from", printable(spec["submitted_from"])),
    ]


def _warning(warn: dict[str, Any], job: Job) -> str:
    if not warn.get("before_s"):
        return ""
    return f"{warn['signal']}, {render_duration(warn['before_s'])} before the end" + ("; sent" if job.warned else "")


def _quoted(word: str) -> str:
    plain = word and all(char.isalnum() or char in "_@%+=:,./-" for char in word)
    return word if plain else "'" + word.replace("'", "'\"'\"'") + "'"


def _next(job: Job, look: Look) -> str:
    by_state = {
        "held": "release", "frozen": "resume", "queued": "wait", "starting": "logs -f", "running": "logs -f",
        "underway": "wait",
    }  # fmt: skip
    verb = by_state.get(job.state, "logs")
    if not job.attempt and job.final:
        return ""
    return f"\n  next: {look.program} {verb} {job.written}"


def _moment(at: float, now: float) -> str:
    import time  # not on the path of `list` and `submit`

    if not at:
        return ""
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    if not now:
        return text
    return f"{text} (in {render_duration(at - now)})" if at > now else f"{text} ({render_duration(now - at)} ago)"


def host_page(host: dict[str, Any]) -> str:
    """Whatever the daemon tells of its host: one line a fact, lists joined."""
    rows = [(name.replace("_", " "), _fact(value)) for name, value in host.items()]
    wide = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{wide}}  {value}" for name, value in rows if value)


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(item)}" for name, item in value.items())
    if isinstance(value, list):
        if value and all(isinstance(item, int) for item in value):
            return cpuset.render(value)
        return ("; " if value and isinstance(value[0], dict) else ", ").join(map(_fact, value))
    return printable(str(value))


def spec_line(file: str, spec: dict[str, Any]) -> str:
    """What `check` says of a good spec."""
    resources = spec["resources"]
    cpus = f"{resources['cpus']:g} CPU{'' if resources['cpus'] == 1 else 's'}"
    return (
        f"{printable(file)}: ok: {printable(spec['name'])}: {cpus}, {render_size(resources['memory_bytes'])} memory, "
        f"image {printable(spec['image']['source'])}, network {spec['network']['mode']}"
        + "".join(f", {each}" for each in (tasks(spec), waits_for(spec)) if each)
    )


def tasks(spec: dict[str, Any]) -> str:
    """`1000 tasks, 50 at once` of an array; "" of a single job."""
    if not (array := spec.get("array")):
        return ""
    size = sum((last - first) // step + 1 for first, last, step in array["ranges"])
    return f"{size} task{'' if size == 1 else 's'}" + (f", {array['at_once']} at once" if array["at_once"] else "")


def waits_for(spec: dict[str, Any]) -> str:
    """`afterok prepare, 12; singleton` as the spec says it."""
    depends = spec.get("depends") or {}
    kinds = ("after", "afterok", "afternotok", "afterany", "aftercorr")
    found = [f"{kind} {', '.join(map(str, depends[kind]))}" for kind in kinds if depends.get(kind)]
    return printable("; ".join(found + ["singleton"] * bool(depends.get("singleton"))))
