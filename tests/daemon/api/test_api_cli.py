"""The CLI as a person uses it: the installed program, in a process or a terminal of its own, against the real API."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_site import HELLO, ApiSite

from jobs import events as ev

JOBSCTL = str(Path(sys.executable).parent / "jobsctl")


def environment(site: ApiSite, **extra: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("JOBS_", "NO_COLOR"))}
    return {**clean, "JOBS_SOCKET": site.socket, "TERM": "xterm", **extra}


def cli(site: ApiSite, *arguments: str, input: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [JOBSCTL, *arguments], input=input, capture_output=True, text=True, env=environment(site, **extra), timeout=60,
        cwd=site.folder, check=False,
    )  # fmt: skip


@pytest.fixture
def hello(site: ApiSite) -> str:
    (site.folder / "hello.toml").write_text(HELLO)
    return "hello.toml"


def meanwhile(*steps: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        for step in steps:
            step()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(ready: Callable[[], bool], deadline_s: float = 30) -> None:
    end = time.monotonic() + deadline_s
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def has(site: ApiSite, job: int) -> bool:
    return site.portal.call(site.store.record, job) is not None


# --- what is said, and where ------------------------------------------------------------------------------------------


def test_submit_says_what_next_and_data_goes_to_stdout(site: ApiSite, hello: str) -> None:
    done = cli(site, "submit", hello)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "submitted job 1; follow it with: jobsctl logs -f 1\n"
    done = cli(site, "submit", "--json", "--set", "name='other'", hello, "-", input=HELLO, JOBS_PROGRAM="jobs")
    assert json.loads(done.stdout) == [{"job": 2, "name": "other"}, {"job": 3, "name": "other"}]
    assert done.stderr == ""
    done = cli(site, "submit", "--hold", hello, JOBS_PROGRAM="jobs")
    assert done.stderr == "submitted job 4; start it with: jobs release 4\n"


def test_relative_files_and_the_folder_of_submission(site: ApiSite) -> None:
    (site.folder / "below").mkdir()
    (site.folder / "below" / "spec.toml").write_text(HELLO + '[[mounts]]\nsource = "data"\ntarget = "/data"\n')
    assert cli(site, "submit", "below/spec.toml").returncode == 0
    record = site.portal.call(site.store.record, 1)
    assert record is not None and record.spec.submitted_from == str(site.folder)
    assert record.spec.mounts[0].source == str(site.folder / "below" / "data")


def test_looking(site: ApiSite, hello: str) -> None:
    assert cli(site, "list").stderr == "no jobs; submit one with: jobsctl submit SPEC\n"
    cli(site, "submit", hello, hello)
    site.start(1)
    site.write_log(1, b"one\ntwo\n")
    listed = cli(site, "list")
    assert [line.split()[:3] for line in listed.stdout.splitlines()[1:]] == [
        ["1", "hello", "running"], ["2", "hello", "queued"],
    ]  # fmt: skip
    assert "\x1b" not in listed.stdout and listed.stderr == ""
    assert [job["job"] for job in json.loads(cli(site, "list", "--json", "--state", "queued").stdout)] == [2]
    assert json.loads(cli(site, "show", "--json", "1").stdout)["state"] == "running"
    assert [job["job"] for job in json.loads(cli(site, "show", "--json", "1", "2").stdout)] == [1, 2]
    assert cli(site, "show", "1").stdout.startswith("job 1  hello\n")
    assert cli(site, "logs", "1").stdout == "one\ntwo\n"
    assert cli(site, "logs", "--tail", "1", "1").stdout == "two\n"
    assert cli(site, "logs", "--stderr", "1").stdout == ""
    assert json.loads(cli(site, "events", "--head").stdout)["seq"] == site.head()[0]
    kinds = [json.loads(line)["kind"] for line in cli(site, "events", "--job", "1").stdout.splitlines()]
    assert kinds == ["submitted", "placed", "started"]


def test_check_prints_what_was_understood(site: ApiSite, hello: str) -> None:
    assert cli(site, "check", hello).stdout.startswith("hello.toml: ok: hello: 1 CPU, ")
    assert json.loads(cli(site, "check", "--json", hello).stdout)[0]["name"] == "hello"


def test_a_reader_that_goes_away_is_no_error(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello)
    site.start(1)
    site.write_log(1, b"line\n" * 200_000)
    done = subprocess.run(
        f"{JOBSCTL} logs 1 | head -n 1", shell=True, capture_output=True, text=True, env=environment(site), check=False
    )
    assert done.stdout == "line\n" and done.stderr == ""


# --- exit codes -------------------------------------------------------------------------------------------------------

WRONG = [
    (["submit"], 2, "Missing argument"),
    (["submit", "nothing.toml"], 2, "cannot read 'nothing.toml': No such file"),
    (["submit", "."], 2, "cannot read '.': Is a directory"),
    (["submit", "bad.toml"], 2, "bad.toml:1: nmae: unknown key"),
    (["submit", "latin1.toml"], 2, "latin1.toml is not UTF-8 text (byte 8)"),
    (["submit", "large.toml"], 2, "large.toml is larger than 1 MiB"),
    (["submit", "--set", "resources.cpus", "hello.toml"], 2, "resources.cpus"),
    (["submit", "--set", "resources.cpus=100", "hello.toml"], 2, "this host has 64"),
    (["check", "bad.toml"], 2, "did you mean 'name'?"),
    (["show", "7"], 2, "no job 7"),
    (["show", "x"], 2, "no job 'x'"),
    (["show", "../../etc"], 2, "no "),
    (["logs", "7"], 2, "no job 7"),
    (["wait", "7"], 2, "no job 7"),
    (["wait", "--timeout", "soon", "1"], 2, "not a duration: 'soon'"),
    (["cancel", "7"], 2, "no job 7"),
    (["cancel", "--signal", "FOO", "1"], 2, "no signal 'FOO'; one of"),
    (["cancel", "--kill", "--grace", "3s", "1"], 2, "--kill takes no"),
    (["cancel", "--grace", "-1", "1"], 2, "not a duration"),
    (["pause"], 2, "give ids of jobs, or --all, --user or --queue"),
    (["pause", "--all", "1"], 2, "or --queue, not both"),
    (["pause", "--drain", "1"], 2, "--drain needs --all or --queue"),
    (["resume", "--all", "--spread", "slowly"], 2, "not a duration: 'slowly'"),
    (["priority", "1"], 2, "nothing to change"),
    (["priority", "--urgency", "101", "1"], 2, "urgency: from 0 to 100, not 101"),
    (["priority", "--urgency", "high", "1"], 2, "not a valid integer"),
    (["priority", "--network", "fast", "1"], 2, "no network class 'fast'; one of background"),
    (["release", "1"], 2, "job 1 is queued, not held"),
    (["exec", "1", "--", "true"], 2, "job 1 is queued, not running"),
    (["list", "--state", "runing"], 2, "no state 'runing'"),
    (["list", "--newest", "0"], 2, "0"),
    (["events", "--after", "-1"], 2, "-1"),
    (["image", "import", "../x", "."], 2, "not a name of an image"),
    (["image", "import", "x", "missing.tar"], 2, "as you: No such file or directory"),
    (["image", "remove", "x"], 2, "no image 'x'"),
    (["shell-init", "tcsh"], 2, "one of bash, zsh, fish, sh"),
    (["completion", "tcsh"], 2, "one of bash, zsh, fish"),
    (["sumbit", "x"], 2, "No such command 'sumbit'. Did you mean 'submit'?\n"),
    (["--nope"], 2, "No such option"),
]


@pytest.mark.parametrize(("arguments", "status", "said"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_what_is_wrong_is_said_on_stderr(shared_site: ApiSite, arguments: list[str], status: int, said: str) -> None:
    site = shared_site
    if not has(site, 1):
        (site.folder / "hello.toml").write_text(HELLO)
        (site.folder / "bad.toml").write_text('nmae = "x"\n')
        (site.folder / "latin1.toml").write_bytes(b'name = "\xe9"')
        (site.folder / "large.toml").write_bytes(b"#" * ((1 << 20) + 1))
        cli(site, "submit", "hello.toml")
    before = site.head()
    done = cli(site, *arguments)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert said in done.stderr and "Traceback" not in done.stderr
    assert site.head() == before


def test_no_daemon(site: ApiSite, hello: str) -> None:
    done = cli(site, "list", JOBS_SOCKET="/nonexistent/jobsd.sock")
    assert done.returncode == 4
    assert done.stderr.startswith("error: no daemon answers on /nonexistent/jobsd.sock\n  hint: start it with: ")
    assert cli(site, "run", hello, JOBS_SOCKET="/nonexistent/jobsd.sock").returncode == 4


def test_wait_exits_with_the_jobs_own_status(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello, hello, hello, hello)
    for job, status, cause in ((1, 0, ""), (2, 42, ""), (3, 137, "oom")):
        site.start(job)
        site.end(job, status, cause)
    assert cli(site, "wait", "1").returncode == 0
    assert cli(site, "wait", "2").returncode == 42
    done = cli(site, "wait", "1", "3", "2")
    assert done.returncode == 137 and "job 3 (hello) out of memory" in done.stderr
    assert cli(site, "wait", "-q", "1", "2").stderr == ""
    assert cli(site, "wait", "--timeout", "0.05s", "4").returncode == 124
    cli(site, "cancel", "4")
    assert cli(site, "wait", "4").returncode == 130


def test_a_job_that_could_not_start(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello)
    record = site.place(1)
    site.report(ev.StartFailed(1, str(record.execution), "overlay", 28, "/x", "failed at step 'overlay' on /x", 3.0))
    done = cli(site, "wait", "1")
    assert done.returncode == 3 and "failed at step 'overlay' on /x" in done.stderr


def test_steering_several_tells_each_and_fails_with_the_first(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello, hello)
    done = cli(site, "pause", "1", "9", "2")
    assert done.returncode == 2
    assert [line.split(";")[0] for line in done.stderr.splitlines()] == [
        "job 1 is held", "error: no job 9 (see your jobs with: jobsctl list)", "job 2 is held",
    ]  # fmt: skip
    assert cli(site, "resume", "1", "2").returncode == 0


def test_all_of_a_queue_or_a_user_are_paused_and_resumed(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello, hello)
    done = cli(site, "pause", "--all", "--drain")
    assert (done.returncode, done.stderr.splitlines()) == (0, [
        "queue default is drained; start its jobs again with: jobsctl queue open default",
        "job 1 is held; go on with: jobsctl resume 1", "job 2 is held; go on with: jobsctl resume 2",
    ])  # fmt: skip
    assert cli(site, "resume", "--queue", "night").stderr == "no jobs there to resume\n"
    assert cli(site, "resume", "--user", "nobody-else").stderr == "no jobs there to resume\n"
    done = cli(site, "resume", "--queue", "default", "--spread", "10ms")
    assert [line.split(";")[0].split(" (")[0] for line in done.stderr.splitlines()] == [
        "job 1 is queued", "job 2 is queued",
    ]  # fmt: skip


def test_pause_and_resume_wait(site: ApiSite, hello: str) -> None:
    from builders import a_placement

    cli(site, "submit", hello)
    site.start(1)

    def record() -> Any:
        return site.portal.call(site.store.record, 1)

    helper = meanwhile(lambda: until(lambda: bool(record().pause_holds)), lambda: site.freeze(1))
    done = cli(site, "pause", "--wait", "1")
    helper.join()
    assert (done.returncode, done.stderr) == (0, "job 1 is frozen; go on with: jobsctl resume 1\n")
    execution = site.execution(1)
    helper = meanwhile(
        lambda: until(lambda: not record().pause_holds),
        lambda: site.report(ev.ThawPlaced(1, execution, a_placement(1), 5.0)),
        lambda: site.report(ev.Thawed(1, execution, 0.001, 6.0)),
    )
    done = cli(site, "resume", "--wait", "1")
    helper.join()
    assert (done.returncode, done.stderr) == (0, "job 1 is running\n")
    helper = meanwhile(
        lambda: until(lambda: bool(record().pause_holds)),
        lambda: site.report(ev.FreezeFailed(1, execution, "not frozen within 5 s", 5.0, 7.0)),
    )
    done = cli(site, "pause", "--wait", "1")
    helper.join()
    assert done.returncode == 3 and "runs on: not frozen within 5 s" in done.stderr


# --- following --------------------------------------------------------------------------------------------------------


def test_follow_shows_output_and_ends_with_the_jobs_status(site: ApiSite, hello: str) -> None:
    helper = meanwhile(
        lambda: until(lambda: has(site, 1)), lambda: site.start(1), lambda: site.write_log(1, b"out\n"),
        lambda: site.write_log(1, b"err\n", "stderr"), lambda: site.write_log(1, b"last"), lambda: site.end(1, 5),
    )  # fmt: skip
    done = cli(site, "submit", "--follow", hello)
    helper.join()
    assert (done.returncode, done.stdout) == (5, "out\nlast")
    lines = done.stderr.splitlines()
    assert lines[0] == "submitted job 1" and "err" in lines
    assert lines[-2].startswith("job 1 (hello) failed: ") and lines[-1] == "  see more with: jobsctl show 1"


def test_several_are_followed_by_lines(site: ApiSite, hello: str) -> None:
    helper = meanwhile(
        lambda: until(lambda: has(site, 2)), lambda: site.start(1), lambda: site.start(2), lambda: site.end(2, 9),
        lambda: site.end(1, 0),
    )  # fmt: skip
    done = cli(site, "submit", "--follow", hello, hello)
    helper.join()
    assert done.returncode == 9 and "job 1 (hello) completed" in done.stderr


def test_logs_and_wait_survive_a_restart_of_the_daemon(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello)
    site.start(1)
    site.write_log(1, b"before\n")
    programs = [
        subprocess.Popen([JOBSCTL, *arguments, "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env=environment(site))
        for arguments in (["logs", "-f"], ["wait"])
    ]  # fmt: skip
    assert programs[0].stdout is not None
    assert programs[0].stdout.read(7) == "before\n"
    until(lambda: site.connections().total() >= 2)
    site.stop_daemon()
    site.write_log(1, b"meanwhile\n", execution="1.0.1")
    site.start_daemon()
    site.write_log(1, b"after\n")
    site.end(1, 6)
    out, _ = programs[0].communicate(timeout=60)
    assert out == "meanwhile\nafter\n" and programs[0].returncode == 0
    _, said = programs[1].communicate(timeout=60)
    assert programs[1].returncode == 6 and "waiting for it" in said


def test_events_followed_over_a_restart_are_neither_lost_nor_doubled(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello, hello)  # two events in one entry
    follower = subprocess.Popen([JOBSCTL, "events", "-f"], stdout=subprocess.PIPE, text=True, env=environment(site))
    assert follower.stdout is not None
    seen = [json.loads(follower.stdout.readline()) for _ in range(2)]
    site.stop_daemon()
    site.start_daemon()
    site.start(1)
    seen += [json.loads(follower.stdout.readline()) for _ in range(2)]
    follower.terminate()
    follower.communicate(timeout=30)
    assert [(event["job"], event["kind"]) for event in seen] == [
        (1, "submitted"), (2, "submitted"), (1, "placed"), (1, "started"),
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["submit --follow", "run"])
def test_interrupt(site: ApiSite, hello: str, command: str) -> None:
    """Detaches from `submit --follow`, asks the job of `run` to stop, then kills it."""
    program = subprocess.Popen(
        [JOBSCTL, *command.split(), hello], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(site), cwd=site.folder,
    )  # fmt: skip
    assert program.stderr is not None
    until(lambda: has(site, 1))
    site.start(1)
    said = ""
    while "running" not in said:
        said += program.stderr.readline()
    program.send_signal(signal.SIGINT)
    if command != "run":
        _, rest = program.communicate(timeout=60)
        assert program.returncode == 130 and "goes on; come back with: jobsctl logs -f 1" in rest
        record = site.portal.call(site.store.record, 1)
        assert record is not None and record.cancel is None
        return
    for signal_name in ("TERM", "KILL"):
        until(lambda name=signal_name: cancelling(site) == name)  # type: ignore[misc]
        if signal_name == "TERM":
            program.send_signal(signal.SIGINT)
    site.end(1, 137, "cancelled")
    _, rest = program.communicate(timeout=60)
    assert program.returncode == 137 and "stopping the job" in rest and "killing the job" in rest


def cancelling(site: ApiSite) -> str:
    record = site.portal.call(site.store.record, 1)
    return record.cancel.signal if record and record.cancel else ""


# --- on a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """The program with a terminal as all three of its streams."""

    def __init__(self, site: ApiSite, *arguments: str, **extra: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(site.folder)
            os.execve(JOBSCTL, [JOBSCTL, *arguments], environment(site, COLUMNS="90", LINES="24", **extra))
        self.text = ""

    def until(self, pattern: str, deadline_s: float = 30) -> str:
        end = time.monotonic() + deadline_s
        while not re.search(pattern, self.text):
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.text!r}"
            try:
                self.text += os.read(self.fd, 65536).decode()
            except OSError:
                raise AssertionError(f"it ended; no {pattern!r} in {self.text!r}") from None
        return self.text

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def status(self) -> int:
        while True:
            try:
                if not (data := os.read(self.fd, 65536)):
                    break
                self.text += data.decode()
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_live_line_gives_way_to_output(site: ApiSite, hello: str) -> None:
    terminal = Terminal(site, "run", hello)
    terminal.until(r"\r\x1b\[Jjob 1 hello  queued")
    site.start(1)
    site.node.usages["1.0.1"] = ev.Usage(cpu_s=3.25, memory_bytes=7 << 20, stdout_bytes=5)
    terminal.until(r"job 1 hello  \x1b\[36mrunning\x1b\[0m  \S+  cpu 3.2s  mem 7.0MiB  out 5B")
    site.write_log(1, b"hi there\n")
    terminal.until(r"\r\x1b\[Jhi there\r\n")
    site.end(1, 0)
    assert terminal.status() == 0
    assert terminal.text.splitlines()[-1].endswith("job 1 (hello) \x1b[32mcompleted\x1b[0m: ran 2.5s, cpu 1.2s")


def test_watch_draws_over_and_NO_COLOR_is_kept(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello)
    terminal = Terminal(site, "list", "--watch", NO_COLOR="1")
    terminal.until(r"\x1b\[H\x1b\[JJOB  NAME +STATE")
    terminal.until(r"  1  hello +queued")
    site.start(1)
    terminal.until(r"  1  hello +running")
    assert "\x1b[3" not in terminal.text
    terminal.type("\x03")
    assert terminal.status() == 130
    assert "Traceback" not in terminal.text


def test_completion_of_commands_and_job_ids(site: ApiSite, hello: str) -> None:
    cli(site, "submit", hello, hello)
    done = cli(site, _JOBSCTL_COMPLETE="bash_complete", COMP_WORDS="jobs wa", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,wait"]
    done = cli(site, _JOBSCTL_COMPLETE="zsh_complete", COMP_WORDS="jobs show ", COMP_CWORD="2")
    assert done.stdout.splitlines() == ["plain", "2", "hello, queued", "plain", "1", "hello, queued"]
    done = cli(site, _JOBSCTL_COMPLETE="bash_complete", COMP_WORDS="jobs show ", COMP_CWORD="2", JOBS_SOCKET="/none")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
