"""Facts by reading and by trying: for `jobsd doctor` and the launcher's start, which have one thread. Not the daemon.

What is tried happens in children and is undone there (runtime/hostprobe.py). Where the kernel would load a module for
it, it is not tried: to look must not change the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from config.settings import Settings
from netbridge import trial
from netbridge.names import NetworkSettings
from runtime import hostcaps
from runtime.cgroups import device_bpf, net_egress, programs
from runtime.hostprobe import Ask, in_own_network, load_program, probe
from runtime.outcome import Outcome
from scheduler.doctor.facts import Facts
from scheduler.doctor.reading import read_facts
from scheduler.doctor.sources import nearest

_HARMLESS = ("here", "perhaps")  # states of a module whose use loads nothing
_BLOCK = 65536


def try_facts(settings: Settings, asked_by: str) -> Facts:
    """`read_facts`, and what its tries found."""
    caps = hostcaps.probe(f"{settings.run_dir}/cgroup", load=False)
    facts = read_facts(settings, asked_by, caps)
    tries = probe(_ask(facts, settings))
    bpf = {f"bpf-{hook}" for hook in ("devices", "egress") if _worked(tries, f"bpf:{hook}")}
    return replace(
        facts,
        caps=replace(caps, features=caps.features | bpf),
        wires=replace(
            facts.wires,
            obstacles=tuple(filter(None, _said(tries, "nft:list").splitlines())),
            queue=_said(tries, "uplink:queue"),
        ),
        tries=tries,
    )


def _ask(facts: Facts, settings: Settings) -> Ask:
    state = nearest(settings.state_dir)
    for_mounts = (each for each in facts.folders if each.role not in ("state", "run"))
    folders = {each.path: each for each in for_mounts if each.exists and not each.remote}
    by_filesystem = {each.point: path for path, each in reversed(folders.items())}  # each filesystem once
    local = not any(each.remote for each in facts.folders if each.role == "state")
    return Ask(
        id_base=settings.id_first,
        id_count=_BLOCK,
        groups=tuple((each.version, each.parent) for each in facts.hierarchies),
        idmapped=tuple(sorted(by_filesystem.values())),
        layers=state if local else "",
        spool=state if local else "",
        overlay=_may_touch(facts, "overlay"),
        loop=_may_touch(facts, "loop"),
        more=_more(facts, settings),
    )


def _more(facts: Facts, settings: Settings) -> dict[str, Callable[[], str]]:
    found: dict[str, Callable[[], str]] = {
        "bpf:devices": partial(load_program, programs.DEVICE.program_type, device_bpf.program(())),
        "bpf:egress": partial(load_program, programs.EGRESS.program_type, net_egress.program(1)),
    }
    if facts.wires.uplink:
        found["uplink:queue"] = partial(trial.root_queue, facts.wires.uplink)
    try:
        network = NetworkSettings(settings.bridge, settings.subnet, settings.nft_table, settings.state_dir)
    except ValueError:
        return found  # the daemon says what is wrong with them
    if _may_touch(facts, "nf_tables") and not facts.wires.binding:
        found["nft:list"] = partial(trial.in_the_way, settings.bridge)
        if facts.modules.get("nf_tables") == "perhaps":  # else its parts might be modules
            found["nft:tables"] = partial(in_own_network, partial(trial.tables, network))
    if _may_touch(facts, "bridge") and _may_touch(facts, "veth"):
        found["links"] = partial(in_own_network, partial(trial.links, network))
    for kind in ("tbf", "htb"):
        if _may_touch(facts, f"sch_{kind}"):
            found[f"queue:{kind}"] = partial(in_own_network, partial(trial.queue, kind))
    return found


def _may_touch(facts: Facts, module: str) -> bool:
    return facts.modules.get(module) in _HARMLESS


def _worked(tries: dict[str, Outcome], name: str) -> bool:
    return name in tries and tries[name].worked is True


def _said(tries: dict[str, Outcome], name: str) -> str:
    return tries[name].said if _worked(tries, name) else ""
