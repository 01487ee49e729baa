"""`jobs` is a builtin of every shell: after shell-init our commands reach the program, everything else the builtin."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from installation import Installation

SHELLS = {"bash": "bash", "zsh": "zsh", "dash": "sh", "fish": "fish"}
INTERACTIVE = {
    "bash": ["bash", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "dash": ["dash", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
ROOT = Path(__file__).resolve().parents[2]
JOBSCTL = Path(sys.executable).parent / "jobsctl"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    if not shutil.which(request.param):
        pytest.skip(f"needs tool.{request.param}: not installed")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A `jobsctl` on PATH that tells how it was called, and spec files to submit."""
    program = tmp_path / "bin" / "jobsctl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "reached as $JOBS_PROGRAM: $*"\nexit 7\n')
    program.chmod(0o755)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "hello.toml").write_text("")
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{folder}/bin:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8",
        "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder),
    }  # fmt: skip


def init(shell: str, folder: Path) -> str:
    done = subprocess.run(
        [JOBSCTL, "shell-init", SHELLS[shell]], capture_output=True, text=True, check=True, env=environment(folder)
    )
    return done.stdout


def run(shell: str, folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    file = folder / "script"
    file.write_text(init(shell, folder) + "\n" + script)
    return subprocess.run(
        [shell, str(file)], capture_output=True, text=True, env=environment(folder), cwd=folder, timeout=60, check=False
    )


def test_our_commands_reach_the_program_with_their_status(shell: str, folder: Path) -> None:
    status = "$status" if shell == "fish" else "$?"
    done = run(shell, folder, f"jobs submit --set 'a b=c' examples/hello.toml\necho status {status}\n")
    assert done.stdout.splitlines() == ["reached as jobs: submit --set a b=c examples/hello.toml", "status 7"], done


def test_a_job_is_submitted_for_real(shell: str, folder: Path, site: Installation) -> None:
    (folder / "bin" / "jobsctl").unlink()
    (folder / "bin" / "jobsctl").symlink_to(JOBSCTL)
    file = folder / "script"
    file.write_text(init(shell, folder) + f"\njobs submit {ROOT}/examples/hello.toml\njobs list --newest 1\n")
    both = {**environment(folder), "JOBS_SOCKET": site.environment()["JOBS_SOCKET"]}
    done = subprocess.run([shell, str(file)], capture_output=True, text=True, env=both, timeout=60, check=False)
    assert re.fullmatch(r"submitted job \d+; follow it with: jobs logs -f \d+\n", done.stderr), done
    job = int(done.stderr.split()[2].rstrip(";"))
    assert f"{job}  hello" in done.stdout
    assert site.wait(job) == 0 and site.output(job) == "hello from a job\n"


def test_every_command_reaches_the_program(shell: str, folder: Path) -> None:
    from jobs.cli.main import COMMANDS

    done = run(shell, folder, "".join(f"jobs {name}\n" for name in COMMANDS))
    assert done.stdout.splitlines() == [f"reached as jobs: {name}" for name in COMMANDS], done


def test_a_background_job_of_the_shell_is_still_listed(shell: str, folder: Path) -> None:
    pid = "$last_pid" if shell == "fish" else "$!"
    done = run(shell, folder, f"sleep 60 &\njobs\njobs -l\njobs -p\nkill {pid}\n")
    shown = "Running" if shell == "dash" else "sleep"  # dash knows the text of a command only at a prompt
    assert done.stdout.count(shown) >= 2, done
    assert "reached" not in done.stdout
    assert re.search(r"^\s*\d+\s*$|\b\d{2,}\b", done.stdout, re.MULTILINE), done


def test_its_program_is_named_by_path_where_PATH_does_not_have_it(shell: str, folder: Path) -> None:
    (folder / "bin" / "jobsctl").unlink()
    text = init(shell, folder)
    assert str(JOBSCTL) in text and "@" not in text.replace('"$@"', "").replace("$@", "")


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, argv: list[str], folder: Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(argv[0], argv, {**environment(folder), "TERM": "xterm"})
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, pattern: str, deadline_s: float = 30) -> str:
        end = time.monotonic() + deadline_s
        while not re.search(pattern, self.text):
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.text!r}"
            try:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the shell ended; no {pattern!r} in {self.text!r}") from None
        return self.text

    def close(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def test_at_a_prompt(shell: str, folder: Path) -> None:
    """As a person meets it: the builtin's job list, and `jobs submit`, in the same interactive shell."""
    (folder / "init").write_text(init(shell, folder))
    terminal = Terminal(INTERACTIVE[shell], folder)
    try:
        source = "source" if shell == "fish" else "."
        terminal.type(f"{source} ./init; echo re''ady\r")
        terminal.until(r"ready")
        terminal.type("sleep 60 &\r")
        terminal.type("jobs; echo list''ed\r")
        listed = terminal.until(r"listed")
        assert re.search(r"(?i)running.*sleep 60|sleep 60.*running|running\s+sleep 60", listed), listed
        terminal.type("jobs submit examples/hello.toml\r")
        terminal.until(r"reached as jobs: submit examples/hello.toml")
        terminal.type(f"kill {'$last_pid' if shell == 'fish' else '%1'}; echo kil''led\r")
        terminal.until(r"killed")
    finally:
        terminal.close()


COMPLETE = {
    "bash": "COMP_WORDS=(jobs su) COMP_CWORD=1; _jobsctl_complete; printf '%s\\n' \"${COMPREPLY[@]}\"",
    "fish": "complete -C 'jobs su'",
}


@pytest.mark.parametrize("name", COMPLETE)
def test_commands_are_completed(name: str, folder: Path) -> None:
    if not shutil.which(name):
        pytest.skip(f"needs tool.{name}: not installed")
    (folder / "bin" / "jobsctl").unlink()
    (folder / "bin" / "jobsctl").symlink_to(JOBSCTL)
    done = run(name, folder, COMPLETE[name])
    assert done.stdout.split()[0] == "submit", done


def test_zsh_completes_commands_at_the_prompt(folder: Path) -> None:
    if not shutil.which("zsh"):
        pytest.skip("needs tool.zsh: not installed")
    (folder / "bin" / "jobsctl").unlink()
    (folder / "bin" / "jobsctl").symlink_to(JOBSCTL)
    (folder / "init").write_text("autoload -U compinit; compinit -D -u\n" + init("zsh", folder))
    terminal = Terminal(INTERACTIVE["zsh"], folder)
    try:
        terminal.type(". ./init; echo re''ady\r")
        terminal.until("ready")
        terminal.type("jobs sub\t")
        terminal.until(r"jobs submit")
    finally:
        terminal.close()
