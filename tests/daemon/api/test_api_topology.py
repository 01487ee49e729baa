"""Who has what of the host: operators see whose it is, others only that it is taken."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from api_site import ALICE, BOB, OPERATOR, OPERATORS_GID, ApiSite
from test_api_cli import cli
from test_api_jobs import submit

from jobs import events as ev
from jobs.host import topology_from_json
from jobs.placement import Placement
from tests.builders import GIB, a_host


def place(site: ApiSite, job: int, placement: Placement) -> str:
    execution = f"{job}.0.1"
    site.portal.call(site.writer.report, ev.Placed(job, execution, placement, 0.0))
    site.portal.call(site.writer.report, ev.Started(job, execution, 0.0))
    return execution


def occupied(site: ApiSite) -> None:
    """Job 1 of Alice has CPUs 0 and, idle, 1; job 2 of Bob was frozen on CPU 2."""
    submit(site.client(ALICE))
    submit(site.client(BOB))
    place(site, 1, Placement("here", (0,), (0,), True, 0.0, GIB, ((0, GIB),), idle=(1,)))
    execution = place(site, 2, Placement("here", (2,), (0,), True, 0.0, GIB, ((0, GIB),)))
    site.portal.call(site.writer.propose, 2, lambda record: ev.PauseRequested(2, "owner", False))
    site.portal.call(site.writer.report, ev.Frozen(2, execution, 0.001, 1.0, GIB // 4, 0.0))


def test_an_operator_sees_whose_it_is(site: ApiSite) -> None:
    occupied(site)
    machine = site.client(OPERATOR, OPERATORS_GID).machine()
    assert topology_from_json(machine.topology) == a_host(cpus_per_node=64, memory_per_node=1 << 40)
    assert [(item.job, item.name, item.state, item.cpus, item.idle) for item in machine.placed] == [
        (1, "hello", "running", (0,), (1,)),
        (2, "hello", "frozen", (), ()),
    ]
    assert machine.memory[0].given_bytes == GIB + GIB // 4 and machine.memory[0].for_jobs_bytes == 1 << 40


def test_others_see_only_that_it_is_taken(site: ApiSite) -> None:
    occupied(site)
    machine = site.client(BOB).machine()
    alices = machine.placed[0]
    assert (alices.job, alices.name, alices.owner, alices.cpus) == (0, "", "", (0,))
    assert machine.placed[1].job == 2 and machine.placed[1].owner


def test_the_command_draws_it(site: ApiSite) -> None:
    occupied(site)
    said = cli(site, "topology", COLUMNS="100").stdout
    assert "    CPUs   0-63   a - · ·" in said, said
    assert "a  job 1 hello of " in said and "B  job 2 hello of " in said
    told = json.loads(cli(site, "topology", "--json").stdout)
    assert [item["job"] for item in told["placed"]] == [1, 2]
    done = cli(site, "topology", "--svg", "host.svg")
    assert done.returncode == 0 and done.stdout == ""
    picture = ElementTree.parse(site.folder / "host.svg").getroot()
    words = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"(1)", "1", "2", "memory node 0"} <= words


def test_a_daemon_that_was_meant_is_not_replaced_by_a_drawing_without_it(site: ApiSite) -> None:
    done = cli(site, "topology", JOBS_SOCKET=str(site.folder / "nobody"))
    assert done.returncode == 4 and done.stdout == ""


def test_bad_words(site: ApiSite) -> None:
    assert cli(site, "topology", "odd.json").returncode == 2
    assert cli(site, "topology", "--capture", "--json").returncode == 2
    unreadable = cli(site, "topology", "--from", "nowhere.json")
    assert unreadable.returncode == 2 and "cannot read nowhere.json" in unreadable.stderr
    (site.folder / "odd.json").write_text("[1]")
    assert "not a capture" in cli(site, "topology", "--from", "odd.json").stderr
    assert cli(site, "topology", "--svg", "/nowhere/host.svg").returncode == 3


def test_a_capture_goes_where_it_is_said_and_draws(site: ApiSite) -> None:
    done = cli(site, "topology", "--capture", "odd.json")
    assert done.returncode == 0 and str(site.folder / "odd.json") in done.stderr
    drawn = cli(site, "topology", "--from", "odd.json")
    assert drawn.returncode == 0 and drawn.stdout.startswith("odd.json: ")
    written = json.loads((site.folder / "odd.json").read_text())
    assert json.loads(cli(site, "topology", "--capture", "-").stdout).keys() == written.keys()
