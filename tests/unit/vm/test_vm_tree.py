"""The disk with the work tree: what goes along and what stays."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from vm import tree


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("disk") / "tree.tar"
    tree.write_disk(target, ["sh", "-c", "echo 'a b'"], {"NAME": "it's"})
    return target


def test_the_tree_without_history_caches_and_environment(disk: Path) -> None:
    with tarfile.open(disk) as archive:
        members = archive.getmembers()
    names = {member.name for member in members}
    assert {"opt/jobs/pyproject.toml", "opt/jobs/tests/vm/tree.py", "opt/jobs-vm/init"} <= names
    tops = {name.split("/")[2] for name in names if name.count("/") == 2}
    assert not tops & {".git", ".venv", ".pytest_cache", ".mypy_cache", "out", "jobsctl.egg-info"}
    assert {(member.uid, member.gid) for member in members} == {(0, 0)}


def test_disks_come_in_sectors(disk: Path) -> None:
    assert disk.stat().st_size % 512 == 0


def test_command_and_environment_survive_the_shell(disk: Path) -> None:
    with tarfile.open(disk) as archive:
        command = archive.extractfile("opt/jobs-vm/command")
        environment = archive.extractfile("opt/jobs-vm/environment")
        assert command
        assert environment
        assert command.read().decode().endswith("exec sh -c 'echo '\"'\"'a b'\"'\"''\n")
        assert environment.read() == b"export NAME='it'\"'\"'s'\n"
