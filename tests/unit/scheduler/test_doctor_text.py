"""Saved hosts, read again: what the page says of each, how long and how wide it is. tests/data/facts/README.md."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import Settings
from jobs.host import HostCaps
from scheduler.doctor.diagnose import diagnose
from scheduler.doctor.facts import Facts, from_json, to_json
from scheduler.doctor.finding import JOBS, JOBSD, LAUNCHER, fatal
from scheduler.doctor.refusing import refused
from scheduler.doctor.text import refusal, report

DATA = Path(__file__).resolve().parents[2] / "data" / "facts"
HOSTS = sorted(path.stem for path in DATA.glob("*.json"))
SETTINGS = {"systemd-6.1": Settings(cgroup_root="system.slice/jobs-cgroup.service")}


def saved(name: str) -> Facts:
    return from_json(json.loads((DATA / f"{name}.json").read_text()))


def page(name: str, width: int = 100, **options: bool) -> str:
    facts = saved(name)
    return report(facts, diagnose(facts, SETTINGS.get(name, Settings())), width=width, **options)


def told(name: str) -> dict[str, str]:
    """Name of each problem → its state."""
    findings = diagnose(saved(name), SETTINGS.get(name, Settings()))
    return {each.name: each.state for each in findings if each.state not in ("ok", "unknown")}


def test_every_host_has_its_expectation_here() -> None:
    named = re.findall(r"`([\w.-]+)\.json`", (DATA / "README.md").read_text())
    assert set(HOSTS) == set(EXPECTED) and set(HOSTS) <= set(named)


# Reviewed one by one: what an operator of that host must hear, and nothing else.
EXPECTED: dict[str, dict[str, str]] = {
    "hybrid-6.18": {"CAP_SYS_RESOURCE": "limited", "out of memory": "limited", "classes on the wire": "limited"},
    "v2-6.1": {"mounts of tmpfs": "limited", "uplink": "limited", "open files": "limited"},
    "systemd-6.1": {"mounts of tmpfs": "limited", "uplink": "limited"},
    "v1-6.1": {
        "v1": "limited", "out of memory": "limited", "mounts of tmpfs": "limited", "uplink": "limited",
        "open files": "limited",
    },
    "v1-5.10": {
        "version": "fatal", "imported images": "missing", "v1": "limited", "out of memory": "limited",
        "mounts": "limited", "mounts of tmpfs": "limited", "uplink": "limited", "Landlock": "limited",
        "open files": "limited",
    },
    "container-without-sys-admin": {
        "capabilities": "fatal", "groups of jobs": "fatal", "loop devices": "fatal", "/proc/sys": "fatal",
        "imported images": "missing", "v1": "limited", "out of memory": "limited", "mounts": "limited",
        "uplink": "limited", "open files": "limited",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTS)
def test_what_each_host_lacks(name: str) -> None:
    assert told(name) == EXPECTED[name]


@pytest.mark.parametrize("name", HOSTS)
def test_facts_survive_json(name: str) -> None:
    assert from_json(json.loads(json.dumps(to_json(saved(name))))) == saved(name)


def test_facts_of_another_version_are_read() -> None:
    data = json.loads((DATA / "v2-6.1.json").read_text())
    del data["core"], data["zones"]
    data["a later fact"] = {"x": 1}
    data["wires"]["a later one"] = 2
    assert from_json(data).core.cpus == 0 and from_json(data).zones


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_page_is_as_wide_as_it_may_be_but_for_one_word(name: str, width: int) -> None:
    for line in page(name, width).splitlines():
        assert len(line) <= width or " " not in line.strip(), line


@pytest.mark.parametrize("name", HOSTS)
def test_the_page_fits_on_one_screen(name: str) -> None:
    assert len(page(name).splitlines()) <= 40


def test_a_healthy_host_takes_half_a_screen() -> None:
    assert len(page("systemd-6.1").splitlines()) <= 16


@pytest.mark.parametrize("name", HOSTS)
def test_the_worst_comes_first_and_what_is_fine_last(name: str) -> None:
    words = [line.split()[0] for line in page(name).splitlines()[2:] if line[:1].strip() and line[:9].strip()]
    order = [word for word in words if word in ("FATAL", "missing", "limited", "not", "ok")]
    assert order == sorted(order, key=["FATAL", "missing", "limited", "not", "ok"].index) and order[-1] == "ok"


def test_beside_something_fatal_the_rest_is_brief_unless_all_is_wanted() -> None:
    brief, whole = page("v1-5.10"), page("v1-5.10", everything=True)
    assert "limited  freezer, v1: only v1's freezer\nlimited" in brief
    assert "thawed for a moment to be" in whole and "ok       kernel" not in brief
    assert len(whole.splitlines()) > len(brief.splitlines())


def test_the_verdict_is_the_second_line() -> None:
    assert page("systemd-6.1").splitlines()[1].startswith("jobsd can run jobs here: ")
    assert page("v1-5.10").splitlines()[1].startswith("jobsd can't run jobs here: 1 fatal")
    assert "not for a container" in page("container-without-sys-admin", 120).splitlines()[1]


def test_texts_of_the_host_can_t_steer_the_terminal() -> None:
    hostile = replace(saved("v2-6.1"), distribution="\x1b]0;x\x07Evil\nLinux")
    assert "\x1b" not in report(hostile, diagnose(hostile, Settings()), width=100)


def test_colour_only_where_it_is_wanted() -> None:
    assert "\x1b[" not in page("v1-5.10") and "\x1b[1;31mFATAL\x1b[0m" in page("v1-5.10", colour=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", page("v1-5.10", colour=True)) == page("v1-5.10")


def test_a_refusal_is_the_fatal_part_of_the_page() -> None:
    found = fatal(diagnose(saved("container-without-sys-admin"), Settings()), JOBSD)
    assert [each.name for each in found] == ["capabilities", "groups of jobs", "/proc/sys"]
    assert refusal(found[:1]) in page("container-without-sys-admin")
    error = refused(found, JOBSD)
    assert refusal(found) in error.message and error.exit_code == 3 and "jobsctl doctor" in error.hint


def test_whom_each_fatal_thing_stops() -> None:
    found = diagnose(saved("container-without-sys-admin"), Settings())
    assert {each.name for each in fatal(found, LAUNCHER)} == {"capabilities"}
    assert {each.name for each in fatal(found, JOBS)} == {"loop devices"}


def test_of_a_host_that_shows_nothing_the_page_is_still_a_page() -> None:
    """No /proc, no /sys: everything has its default."""
    nothing = Facts(caps=HostCaps("", "", {}, "", "", frozenset()))
    text = report(nothing, diagnose(nothing, Settings()), width=100)
    assert "FATAL    privileges, capabilities" in text and "no cgroup filesystem is mounted" in text
