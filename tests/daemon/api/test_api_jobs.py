"""Submitting, looking and steering, by users who may and users who may not."""

from __future__ import annotations

import json

import pytest
from api_site import ALICE, BOB, HELLO, OPERATOR, OPERATORS_GID, ApiSite

from jobs import protocol
from jobs.client import Client
from jobs.errors import JobsError, SpecError
from jobs.protocol import SpecText


def text(toml: str = HELLO, *sets: str, file: str = "hello.toml") -> SpecText:
    return SpecText(toml, file, "/srv", "/home", sets)


def submit(client: Client, toml: str = HELLO, *sets: str, **options: bool) -> int:
    return client.submit([text(toml, *sets)], **options).jobs[0]


def refused(call: object, code: str) -> JobsError:
    with pytest.raises(JobsError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.code == code, caught.value
    return caught.value


def test_submit_answers_after_the_commit_and_the_peer_is_the_owner(site: ApiSite) -> None:
    alice = site.client(ALICE, 61200, 61201)
    accepted = alice.submit([text(), text('name = "two"\ncommand = ["true"]')])
    assert accepted == protocol.Accepted((1, 2), ("hello", "two"), (0, 0))
    record = site.portal.call(site.store.record, 2)
    assert record is not None and record.state == "queued"
    assert (record.owner.uid, record.owner.gid, set(record.owner.groups)) == (ALICE, ALICE, {61200, 61201})
    assert record.spec.submitted_from == "/home"


def test_the_same_request_id_is_one_submission(site: ApiSite) -> None:
    request = protocol.Submit((text(), text()), "retry-1")
    first = site.client(ALICE).call("POST", "/v1/jobs", request)
    assert site.client(ALICE).call("POST", "/v1/jobs", request) == first
    assert site.client(BOB).call("POST", "/v1/jobs", request)["jobs"] == [3, 4]  # another user's id is another one


def test_all_or_nothing(site: ApiSite) -> None:
    before = site.head()
    with pytest.raises(SpecError) as caught:
        site.client(ALICE).submit([text(), text("nam = 1", file="bad.toml"), text("cpus = 2", file="worse.toml")])
    assert {problem.file for problem in caught.value.problems} == {"bad.toml", "worse.toml"}
    assert any(problem.line == 1 for problem in caught.value.problems)
    error = refused(lambda: submit(site.client(ALICE), HELLO, "resources.cpus=65"), "user-error")
    assert error.message == "hello.toml: 65 CPUs wanted, this host has 64" and error.hint == "ask for fewer"
    assert site.head() == before


def test_check_changes_nothing(site: ApiSite) -> None:
    before = site.head()
    (spec,) = site.client(ALICE).check([text(HELLO, "resources.memory=2GiB")]).specs
    assert spec["resources"]["memory_bytes"] == 2 << 30
    assert site.head() == before


def test_held_until_released(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice, hold=True)
    assert alice.job(job).state == "held"
    assert alice.release(job).state == "queued"
    refused(lambda: alice.release(job), "wrong-state")
    assert alice.hold(job).state == "held"
    assert alice.resume(job).state == "queued"


def test_list_shows_ones_own_and_operators_all(site: ApiSite) -> None:
    alice, bob, operator = site.client(ALICE), site.client(BOB), site.client(OPERATOR, OPERATORS_GID)
    mine, other = submit(alice), submit(bob)
    assert [job.job for job in alice.jobs().jobs] == [mine]
    refused(lambda: alice.jobs(everyone="true"), "not-allowed")
    assert [job.job for job in operator.jobs().jobs] == []
    assert [job.job for job in operator.jobs(everyone="true").jobs] == [mine, other]
    assert [job.job for job in site.client().jobs(everyone="true", newest=1).jobs] == [other]
    assert [job.job for job in alice.jobs(state=["queued", "running"]).jobs] == [mine]
    assert alice.jobs(state=["running"]).jobs == ()
    assert "queued" in refused(lambda: alice.jobs(state=["runing"]), "user-error").hint


@pytest.mark.parametrize(
    "verb", ["job", "resume", "release", "hold", "cancel", "pause", "priority", "exec", "wait", "logs"]
)
def test_nobody_learns_of_anothers_job(site: ApiSite, verb: str) -> None:
    job = submit(site.client(ALICE))
    site.start(job)
    bob, before = site.client(BOB), site.head()
    requests = {
        "cancel": protocol.Cancel(), "pause": protocol.Pause(), "priority": protocol.Priority(urgency=1),
        "exec": protocol.Exec(("true",)), "logs": "stdout",
    }  # fmt: skip
    extra = [requests[verb]] if verb in requests else []
    there = refused(lambda: getattr(bob, verb)(job, *extra), "no-such-job")
    absent = refused(lambda: getattr(bob, verb)(99, *extra), "no-such-job")
    assert there.message.replace(str(job), "99") == absent.message and there.hint == absent.hint
    assert site.head() == before and site.node.executed == []


def test_an_operators_pause_is_a_second_hold(site: ApiSite) -> None:
    alice, operator = site.client(ALICE), site.client(OPERATOR, OPERATORS_GID)
    job = submit(alice)
    site.start(job)
    assert alice.pause(job, protocol.Pause()).holds == ("owner",)
    assert operator.pause(job, protocol.Pause()).holds == ("operator", "owner")
    site.freeze(job)
    assert alice.resume(job).holds == ("operator",)
    refused(lambda: alice.resume(job), "not-allowed")
    assert alice.job(job).state == "frozen"
    assert operator.resume(job).holds == ()


def test_an_operators_hold_of_a_waiting_job(site: ApiSite) -> None:
    alice, operator = site.client(ALICE), site.client(OPERATOR, OPERATORS_GID)
    job = submit(alice)
    assert operator.hold(job).state == "held"
    refused(lambda: alice.release(job), "not-allowed")
    refused(lambda: alice.resume(job), "not-allowed")
    assert operator.release(job).state == "queued"


def test_an_operator_lifts_every_hold_of_their_own_job_too(site: ApiSite) -> None:
    root, operator = site.client(), site.client(OPERATOR, OPERATORS_GID)
    job = submit(root)
    assert operator.hold(job).holds == ("operator",)
    assert root.release(job).state == "queued"


def test_repeating_a_request_changes_nothing_more(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    site.start(job)
    alice.pause(job, protocol.Pause())
    before = site.head()
    alice.pause(job, protocol.Pause())
    assert site.head() == before
    assert alice.pause(job, protocol.Pause(keep_cpus=True)).version > 0 and site.head() != before


def test_cancel_takes_what_is_left_out_from_the_spec(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice, HELLO + 'stop = { signal = "INT", grace = "5s" }')
    site.start(job)
    assert alice.cancel(job, protocol.Cancel()).cancelling == "INT"
    record = site.portal.call(site.store.record, job)
    assert record is not None and record.cancel is not None
    assert (record.cancel.signal, record.cancel.grace_s, record.cancel.by) == ("INT", 5.0, "owner")
    assert alice.cancel(job, protocol.Cancel("KILL", 0.0)).cancelling == "KILL"
    site.end(job, 137, "cancelled")
    assert "cancelled" in refused(lambda: alice.cancel(job, protocol.Cancel()), "wrong-state").message


@pytest.mark.parametrize("verb", ["pause", "resume", "priority", "hold", "release", "cancel"])
def test_what_has_ended_is_not_steered(site: ApiSite, verb: str) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    site.start(job)
    site.end(job)
    requests = {"pause": protocol.Pause(), "priority": protocol.Priority(urgency=1), "cancel": protocol.Cancel()}
    before = site.head()
    error = refused(lambda: getattr(alice, verb)(job, *([requests[verb]] if verb in requests else [])), "wrong-state")
    assert "completed" in error.message and f"jobs show {job}" in error.hint
    assert site.head() == before


def test_priority_in_every_live_state(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    assert alice.priority(job, protocol.Priority(urgency=90)).urgency == 90
    site.start(job)
    changed = alice.priority(job, protocol.Priority(cpu_weight=400, io_weight=7, network_class="high"))
    assert (changed.urgency, changed.cpu_weight, changed.io_weight, changed.network_class) == (90, 400, 7, "high")
    alice.pause(job, protocol.Pause())
    site.freeze(job)
    assert alice.priority(job, protocol.Priority(network_class="background")).network_class == "background"


def test_exec_needs_a_running_job(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    refused(lambda: alice.exec(job, protocol.Exec(("true",))), "wrong-state")
    site.start(job)
    assert alice.exec(job, protocol.Exec(("ps", "ax"), tty=True)).socket == "/nowhere/exec.sock"
    assert [(found[0], found[1], found[2], found[3].uid) for found in site.node.executed] == [
        (job, ("ps", "ax"), True, ALICE)
    ]
    alice.pause(job, protocol.Pause())
    site.freeze(job)
    assert "frozen" in refused(lambda: alice.exec(job, protocol.Exec(("true",))), "wrong-state").message


def test_show_has_live_figures_and_the_reason_of_waiting(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    site.waits_for = ["cpus: 1 wanted, 0 free, held by job 9"]
    assert alice.job(job).waits_for == ("cpus: 1 wanted, 0 free, held by job 9",)
    site.start(job)
    from jobs.events import Usage

    site.node.usages[site.execution(job)] = Usage(cpu_s=7.5, stdout_bytes=3)
    site.node.running[site.execution(job)] = 12.0
    shown = alice.job(job)
    assert (shown.ran_s, shown.usage["cpu_s"], shown.usage["stdout_bytes"], shown.waits_for) == (12.0, 7.5, 3, ())
    assert shown.spec is not None and shown.spec["command"] == ["echo", "hello"] and shown.address == "10.0.0.2"
    assert json.dumps(shown.spec)


def test_images_are_changed_by_operators_only(site: ApiSite, tmp_path: object) -> None:
    archive = site.folder / "image.tar"
    archive.write_bytes(b"tar")
    alice, operator = site.client(ALICE), site.client(OPERATOR, OPERATORS_GID)
    request = protocol.ImportImage("debian", str(archive))
    refused(lambda: alice.import_image(request), "not-allowed")
    assert operator.import_image(request) == {"name": "debian", "size_bytes": 3}
    assert alice.images() == [{"name": "debian", "size_bytes": 3}]
    error = refused(lambda: operator.import_image(protocol.ImportImage("x", "/srv/secret.tar")), "user-error")
    assert error.message == "cannot open '/srv/secret.tar' as you: Permission denied"
    refused(lambda: alice.remove_image("debian"), "not-allowed")
    operator.remove_image("debian")
    assert alice.images() == []
    refused(lambda: operator.remove_image("debian"), "user-error")


def test_host_and_head(site: ApiSite) -> None:
    alice = site.client(ALICE)
    assert alice.host() == {"kernel": "6.18"}
    assert site.client(OPERATOR, OPERATORS_GID).host() == {"kernel": "6.18", "executions": ["1.0.1"]}
    submit(alice)
    assert (alice.head().seq, alice.head().hash) == site.head()
