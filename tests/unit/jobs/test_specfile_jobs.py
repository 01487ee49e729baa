"""Several jobs in one file, arrays and dependencies: what is read, and in which order the jobs come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs import specfile
from jobs.array import Array
from jobs.spec import Depends, JobSpec, from_json, to_json


def read(text: str, *sets: str) -> tuple[JobSpec, ...]:
    return specfile.parse(text, file="t.toml", folder="/home/u", sets=sets)


def test_defaults_lie_under_each_job() -> None:
    one, two = read("""
        version = 1
        [defaults]
        script = "true"
        resources = { cpus = 2, memory = "2GiB" }
        env = { A = "1", B = "2" }
        [[job]]
        name = "one"
        resources.cpus = 4
        env.B = "3"
        [[job]]
        name = "two"
        command = ["false"]
        """)
    assert (one.resources.cpus, one.resources.memory_bytes, one.script) == (4, 2 << 30, "#!/bin/sh\ntrue")
    assert dict(one.env) == {"A": "1", "B": "3"}
    assert (two.resources.cpus, two.command, two.script) == (2, ("false",), "")


def test_a_job_comes_after_those_it_waits_for_else_as_in_the_file() -> None:
    text = """
        [defaults]
        command = ["true"]
        [[job]]
        name = "report"
        depends.afterany = ["left", "right", 12, "elsewhere"]
        [[job]]
        name = "left"
        depends.afterok = "prepare"
        [[job]]
        name = "other"
        [[job]]
        name = "right"
        depends.afterok = ["prepare"]
        [[job]]
        name = "prepare"
        """
    specs = read(text)
    assert [spec.name for spec in specs] == ["other", "prepare", "left", "right", "report"]
    assert specs[-1].depends == Depends(afterany=("left", "right", 12, "elsewhere"))


def test_every_key_of_depends_and_an_array() -> None:
    (spec,) = read("""
        name = "a"
        command = ["true"]
        array = "7, 10-19:3%2"
        [depends]
        after = 1
        afterok = ["b", 2]
        afternotok = "c"
        afterany = ["d"]
        aftercorr = ["e"]
        singleton = true
        on_never = "wait"
        """)
    assert spec.array == Array(((7, 7, 1), (10, 19, 3)), 2) and spec.array.size == 5
    assert spec.depends == Depends((1,), ("b", 2), ("c",), ("d",), ("e",), True, "wait")
    assert from_json(to_json(spec)) == spec
    old = to_json(spec)
    del old["array"], old["depends"]
    assert (from_json(old).array, from_json(old).depends) == (None, Depends())


def test_set_changes_every_job_or_the_one_that_is_named() -> None:
    text = '[defaults]\ncommand = ["true"]\n[[job]]\nname = "a"\n[[job]]\nname = "b"\npriority = 1\n'
    assert [spec.priority for spec in read(text, "priority=7")] == [7, 7]
    assert [spec.priority for spec in read(text, "job.0.priority=7")] == [7, 1]
    assert [spec.priority for spec in read(text, "defaults.priority=7")] == [7, 1]


@given(st.permutations(range(12)), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
def test_any_graph_without_circles_has_an_order(ranks: list[int], pairs: list[tuple[int, int]]) -> None:
    edges = {(a, b) for a, b in pairs if ranks[a] < ranks[b]}
    text = '[defaults]\ncommand = ["true"]\n'
    for job in range(12):
        before = [f"j{a}" for a, b in sorted(edges) if b == job]
        text += f'[[job]]\nname = "j{job}"\ndepends.afterok = {before}\n'
    order = [spec.name for spec in read(text)]
    assert sorted(order) == sorted(f"j{job}" for job in range(12))
    assert all(order.index(f"j{a}") < order.index(f"j{b}") for a, b in edges)


def test_a_file_of_a_thousand_jobs() -> None:
    text = '[defaults]\ncommand = ["true"]\n' + "".join(
        f'[[job]]\nname = "j{job}"\npriority = 3\n[job.depends]\nafterok = ["j{job + 1}"]\n' for job in range(999)
    )
    assert len(read(text + '[[job]]\nname = "j999"\n')) == 1000
