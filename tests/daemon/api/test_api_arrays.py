"""Arrays and dependencies over the API and by the CLI: ids like 1_3, lines of errors, verbs that reach every task."""

from __future__ import annotations

import json

import pytest
from api_site import ALICE, BOB, OPERATOR, OPERATORS_GID, ApiSite
from builders import a_placement
from test_api_cli import cli
from test_api_jobs import refused, submit, text

from jobs import events as ev
from jobs import protocol
from jobs.client import Client
from jobs.errors import SpecError
from jobs.record import Record

ARRAY = 'name = "many"\ncommand = ["true"]\narray = "0-8:2%2"\n'
DAG = """
[defaults]
command = ["true"]
[[job]]
name = "report"
depends.afterok = ["left", "right"]
[[job]]
name = "left"
depends.afterok = "prepare"
[[job]]
name = "right"
depends.afterok = "prepare"
[[job]]
name = "prepare"
"""


def begin(site: ApiSite, array: int, index: int) -> Record:
    task = site.portal.call(site.writer.begin_task, array, index, a_placement(index))
    (site.node.folder / str(task.execution)).mkdir(parents=True, exist_ok=True)
    return site.report(ev.Started(task.job, str(task.execution), 2.0))


def problems(client: Client, toml: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        client.submit([text(toml, file="t.toml")])
    return [str(problem) for problem in caught.value.problems]


def test_a_task_is_written_with_its_index(site: ApiSite) -> None:
    alice = site.client(ALICE)
    array = submit(alice, ARRAY)
    task = begin(site, array, 4)
    found = alice.job("1_4")
    assert (found.job, found.id, found.array, found.index, found.state) == (task.job, "1_4", array, 4, "running")
    site.write_log(task.job, b"output of four")
    assert b"".join(alice.logs("1_4", "stdout")[1]) == b"output of four"
    assert alice.wait("1_4", "running").job == task.job
    assert {json.loads(line)["kind"] for line in b"".join(alice.events(job="1_4")).splitlines()} == {
        "task_made", "placed", "started",
    }  # fmt: skip
    shown = alice.job(array)
    assert shown.tasks == {"all": 5, "pending": 4, "live": 1, "completed": 0, "bad": 0}
    assert (shown.pending, shown.state) == ("0-2:2,6-8:2", "queued")
    assert [job.id for job in alice.jobs().jobs] == ["1", "1_4"]
    assert [job.id for job in alice.jobs(id=["1_4", "1"]).jobs] == ["1_4", "1"]


def test_what_is_no_task_is_no_job(site: ApiSite) -> None:
    alice, bob = site.client(ALICE), site.client(BOB)
    array, single = submit(alice, ARRAY), submit(alice)
    begin(site, array, 4)
    for name in (f"{array}_1", f"{array}_10", f"{single}_0", "99_0", "1_", "_1", "1_-2", "1_4_1"):
        refused(lambda name=name: alice.job(name), "no-such-job")
    error = refused(lambda: alice.job("1_2"), "wrong-state")
    assert error.message == "task 1_2 has not begun" and error.hint == "see its array with: jobs show 1"
    for name in ("1", "1_2", "1_4"):
        refused(lambda name=name: bob.job(name), "no-such-job")
        refused(lambda name=name: bob.cancel(name, protocol.Cancel()), "no-such-job")
    error = refused(lambda: list(alice.logs(array, "stdout")[1]), "wrong-state")
    assert error.hint == "jobs logs 1_0"


def test_verbs_reach_what_is_pending_and_what_lives(site: ApiSite) -> None:
    alice, operator = site.client(ALICE), site.client(OPERATOR, OPERATORS_GID)
    array = submit(alice, ARRAY)
    one, two = begin(site, array, 0), begin(site, array, 4)
    alice.priority(array, protocol.Priority(urgency=77))
    assert [job.urgency for job in alice.jobs().jobs] == [77, 77, 77]
    assert operator.pause(array, protocol.Pause()).state == "held"
    assert [alice.job(job).holds for job in (array, one.job, two.job)] == [("operator",)] * 3
    refused(lambda: alice.resume(array), "not-allowed")
    assert operator.resume(array).state == "queued"
    assert [alice.job(job).holds for job in (array, one.job, two.job)] == [()] * 3
    site.end(one.job)
    found = alice.cancel(array, protocol.Cancel())
    assert (found.state, found.pending, found.tasks["live"], found.tasks["bad"]) == ("underway", "", 1, 3)
    assert alice.job(two.job).cancelling == "TERM" and alice.job(one.job).state == "completed"
    site.end(two.job, 143, "cancelled")
    last = alice.job(array)
    assert (last.state, last.exit_status, last.cleaned) == ("cancelled", 143, True)


def test_a_pending_task_is_cancelled_alone(site: ApiSite) -> None:
    alice = site.client(ALICE)
    array = submit(alice, ARRAY)
    found = alice.cancel("1_6", protocol.Cancel())
    assert (found.job, found.pending, found.tasks["bad"]) == (array, "0-4:2,8", 1)
    refused(lambda: alice.cancel("1_6", protocol.Cancel()), "wrong-state")


def test_ended_tasks_are_listed_on_demand(site: ApiSite) -> None:
    alice = site.client(ALICE)
    array = submit(alice, ARRAY)
    task = begin(site, array, 0)
    begin(site, array, 2)
    site.end(task.job, 1)
    assert [job.id for job in alice.jobs().jobs] == ["1", "1_2"]
    assert [job.id for job in alice.jobs(tasks="true").jobs] == ["1", "1_0", "1_2"]
    assert [job.id for job in alice.jobs(state=["failed"]).jobs] == ["1_0"]


# ── dependencies ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_of_several_jobs_is_one_submission_in_order(site: ApiSite) -> None:
    alice = site.client(ALICE)
    submit(alice, 'name = "prepare"\ncommand = ["true"]\n')
    accepted = alice.submit([text(DAG, file="dag.toml"), text()])
    assert accepted.names == ("prepare", "left", "right", "report", "hello") and accepted.jobs == (2, 3, 4, 5, 6)
    assert accepted.tasks == (0,) * 5
    shown = alice.job(5)
    assert shown.needs == (
        {"kind": "afterok", "job": 3, "name": "left"}, {"kind": "afterok", "job": 4, "name": "right"},
    )  # fmt: skip
    assert alice.job(3).needs == ({"kind": "afterok", "job": 2, "name": "prepare"},), "the sibling, not the older one"
    checked = alice.check([text(DAG, file="dag.toml"), text()])
    assert [spec["name"] for spec in checked.specs] == ["prepare", "left", "right", "report", "hello"]
    assert checked.files == ("dag.toml",) * 4 + ("hello.toml",)


def test_who_is_waited_for_must_be_there_and_visible(site: ApiSite) -> None:
    alice, bob, operator = site.client(ALICE), site.client(BOB), site.client(OPERATOR, OPERATORS_GID)
    of_bob = submit(bob, 'name = "secret"\ncommand = ["true"]\n')
    before = site.head()
    hint = "\n  hint: see your jobs with: jobs list"
    nobody = f"no job of yours is called 'secret', and none in this file{hint}"
    waits = f'name = "a"\ncommand = ["true"]\n[depends]\nafterok = [{of_bob}]\n'
    assert problems(alice, waits) == [f"t.toml:4: depends.afterok[0]: no job {of_bob}{hint}"]
    assert problems(alice, DAG.replace('"right"]', '"right",\n"secret"]')) == [
        f"t.toml:7: job[0].depends.afterok[2]: {nobody}"
    ]
    assert problems(alice, '[defaults]\ncommand = ["true"]\ndepends.after = "secret"\n[[job]]\nname = "a"\n') == [
        f"t.toml:3: defaults.depends.after: {nobody}"
    ]
    with pytest.raises(SpecError):
        alice.check([text(waits)])
    assert site.head() == before
    assert operator.job(submit(operator, waits)).needs[0]["job"] == of_bob


def test_the_cli_tells_of_arrays_and_files_of_several_jobs(site: ApiSite) -> None:
    (site.folder / "array.toml").write_text(ARRAY)
    (site.folder / "dag.toml").write_text(DAG)
    said = cli(site, "submit", "array.toml").stderr
    assert said == "submitted array 1 of 5 tasks; wait for it with: jobsctl wait 1\n"
    assert cli(site, "submit", "dag.toml").stderr.splitlines()[3] == (
        "submitted job 5; follow it with: jobsctl logs -f 5"
    )
    assert [line.split(":")[2].strip() for line in cli(site, "check", "dag.toml").stdout.splitlines()] == [
        "prepare", "left", "right", "report",
    ]  # fmt: skip
    begin(site, 1, 0)
    listed = cli(site, "list").stdout.splitlines()
    assert listed[1].split()[:3] == ["1", "many", "queued"] and "0 of 5 tasks completed, 1 live, 4 pending" in listed[1]
    assert listed[-1].split()[:3] == ["1_0", "many", "running"]
    page = cli(site, "show", "1").stdout
    assert "pending     2-8:2" in page and page.endswith("next: jobsctl wait 1\n")
    assert "task        index 0 of the array 1" in cli(site, "show", "1_0").stdout
    assert cli(site, "cancel", "1_4").stderr.startswith("job 1 is queued (0 of 5 tasks completed, 1 not completed")
    assert "waits for   afterok left (3)" in cli(site, "show", "5").stdout
