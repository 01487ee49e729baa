"""Drawings of machines, with and without jobs: what a person sees of them, and that nothing is lost or made up."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

import pytest
from golden_placements import MACHINES, topology_of

from jobs import topology_svg, topology_text
from jobs.host import Topology
from jobs.machine import bare, view_of
from jobs.protocol import Machine, NodeMemory, Placed
from tests.builders import GIB, a_host, gpus, licences

SVG = "{http://www.w3.org/2000/svg}"


def a_machine(topology: Topology, *placed: Placed) -> Machine:
    memory = tuple(NodeMemory(node.id, node.memory_bytes - GIB) for node in topology.nodes)
    return Machine("one", asdict(topology), memory, placed)


def a_job(job: int, *cpus: int, state: str = "running", **more: Any) -> Placed:
    return Placed(job, more.pop("name", "encode"), "alice", state, cpus, **{"exclusive": True, **more})


EXAMPLE = a_machine(
    a_host(nodes=2, cpus_per_node=8, threads=2),
    a_job(7, 0, 1, memory=((0, 2 * GIB),)),
    a_job(8, 2, idle=(3,), memory=((0, GIB),)),
    a_job(9, 8, 9, state="frozen", memory=((1, 3 * GIB),)),
    a_job(10, 4, exclusive=False, shares=0.5),
    a_job(11, 4, exclusive=False, shares=0.25),
    Placed(0, "", "", "running", (6,), exclusive=True),
)


def text(machine: Machine, width: int = 100) -> str:
    return topology_text.draw(view_of(machine), width)


def test_text() -> None:
    assert text(EXAMPLE) == """\
one: 2 memory nodes, 8 cores, 16 CPUs, 16.0GiB

no socket
  memory node 0   8.0GiB   [########..........==]  3.0GiB given, 4.0GiB free
    CPUs   0-7   aa b- %· f·
  memory node 1   8.0GiB   [########..........==]  3.0GiB given, 4.0GiB free
    CPUs   8-15   CC ·· ·· ··

· free  - kept idle, for a job that shares no core  % shared by several jobs

a  job 7 encode of alice, running: CPUs 0-1; memory: node 0 2.0GiB
b  job 8 encode of alice, running: CPUs 2, 3 idle; memory: node 0 1.0GiB
C  job 9 encode of alice, frozen: CPUs 8-9; memory: node 1 3.0GiB
d  job 10 encode of alice, running: CPUs 4, shared, 0.5 in all; memory: none
e  job 11 encode of alice, running: CPUs 4, shared, 0.25 in all; memory: none
f  somebody else's job, running: CPUs 6; memory: none"""


def test_many_jobs_have_letters_of_one_length() -> None:
    jobs = [a_job(number + 1, number) for number in range(30)]
    drawn = text(a_machine(a_host(cpus_per_node=32), *jobs))
    assert re.findall(r"^(\w+)  job (\d+) ", drawn, re.MULTILINE)[::29] == [("aa", "1"), ("bd", "30")]
    assert "CPUs   0-31   aa ab ac " in drawn and " bd  ·  ·" in drawn


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("width", [80, 120])
def test_every_machine_fits_the_terminal_but_for_lists_of_cpus_and_models(machine: str, width: int) -> None:
    drawn = text(bare(topology_of(machine)), width)
    wide = [line for line in drawn.splitlines()[1:] if len(line) > width]
    assert [line for line in wide if not re.search(r"\d,\d+,\d", line)] == []


def test_256_cpus_are_a_page() -> None:
    drawn = text(a_machine(a_host(nodes=8, cpus_per_node=32, threads=2), a_job(1, 0, 1), a_job(2, 255)))
    assert len(drawn.splitlines()) < 25 and "memory nodes 1-6, all alike" in drawn


@pytest.mark.parametrize("machine", MACHINES)
def test_the_picture_has_each_cpu_once_and_needs_nothing_from_elsewhere(machine: str) -> None:
    topology = topology_of(machine)
    drawn = topology_svg.draw(view_of(bare(topology)))
    picture = ElementTree.fromstring(drawn)
    names = [title.text or "" for title in picture.iter(f"{SVG}title")]
    cells = [int(match[1]) for name in names if (match := re.match(r"CPU (\d+): ", name))]
    key = {thread.use for node in view_of(bare(topology)).nodes for part in node.parts for core in part.cores
           for thread in core}  # fmt: skip
    every = {*topology.cpus, *(item.cpu for item in topology.withheld)}
    assert set(cells) == every and len(cells) == len(every) + len(key)
    assert "href" not in drawn and "@import" not in drawn and drawn.count("http") == 1, "the namespace alone"
    assert picture.get("viewBox") == f"0 0 {picture.get('width')} {picture.get('height')}"


def test_the_picture_tells_states_apart_in_words_and_hatching() -> None:
    drawn = topology_svg.draw(view_of(EXAMPLE))
    picture = ElementTree.fromstring(drawn)
    words = [item.text for item in picture.iter(f"{SVG}text")]
    for label, times in (("7", 1), ("(8)", 2), ("9", 1), ("2 jobs", 1), ("other", 2)):
        assert words.count(label) >= times, label
    # frozen: two CPUs, a piece of memory, its line of the key, and the line that says what hatching is
    assert len([item for item in picture.iter(f"{SVG}rect") if item.get("fill") == "url(#frozen)"]) == 5


def test_cells_do_not_overlap_and_lie_inside() -> None:
    picture = ElementTree.fromstring(topology_svg.draw(view_of(EXAMPLE)))
    cells: list[tuple[float, float]] = []

    def walk(node: ElementTree.Element, x: float, y: float) -> None:
        if match := re.match(r"translate\(([\d.]+) ([\d.]+)\)", node.get("transform", "")):
            x, y = x + float(match[1]), y + float(match[2])
        title = node.find(f"{SVG}title")
        if title is not None and (title.text or "").startswith("CPU "):
            cells.append((x, y))
        for child in node:
            walk(child, x, y)

    walk(picture, 0, 0)
    assert len(cells) >= 16
    width, height = (float(picture.get(name, "0")) for name in ("width", "height"))
    for number, (x, y) in enumerate(cells):
        assert x + topology_svg.CELL_WIDTH <= width and y + topology_svg.CELL_HEIGHT <= height
        for other_x, other_y in cells[number + 1 :]:
            assert abs(x - other_x) >= topology_svg.CELL_WIDTH or abs(y - other_y) >= topology_svg.CELL_HEIGHT


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a"b\'c&d', "]]>\x1b[31m", "\u202e", "naïve \U0001f600"])
def test_names_of_users_are_text_and_nothing_else(name: str) -> None:
    machine = a_machine(a_host(), a_job(1, 0, name=name))
    picture = ElementTree.fromstring(topology_svg.draw(view_of(machine)))
    assert {item.tag.removeprefix(SVG) for item in picture.iter()} <= {
        "svg", "title", "defs", "pattern", "rect", "path", "g", "text",
    }  # fmt: skip
    assert "\x1b" not in text(machine)


def test_generic_resources_stand_below_with_who_has_them() -> None:
    topology = a_host(nodes=2, generic=[gpus(0, 0, 1), licences(5)])
    machine = a_machine(topology, a_job(7, 0, generic=(("gpu", (0, 2)), ("licence", (4,)))))
    drawn = text(machine)
    assert "gpu: 3, 1 free; memory node 0: 0-1, memory node 1: 2\nlicence: 5, 4 free\n" in drawn
    assert "a  job 7 encode of alice, running: CPUs 0; memory: none; gpu 0,2, licence 4" in drawn
    words = "".join(ElementTree.fromstring(topology_svg.draw(view_of(machine))).itertext())
    assert "gpu: 3, 1 free" in words
    assert "gpu 0,2, licence 4" in words
