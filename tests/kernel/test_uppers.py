"""The writable layer bites, is private, and leaves nothing behind, also after SIGKILL. Real loops and overlays."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from builders_images import run_helper
from overlays import detached_overlay

from jobs.errors import StepFailed, Unsupported
from runtime.images import loopfs
from runtime.images.uppers import LEAST_BYTES, Upper, Uppers

ROOT = str(Path(__file__).resolve().parents[2])
SMALL = 16 << 20


def with_uppers(state: Path, work: Callable[[Uppers], Awaitable[None]], *, ahead: int = 0) -> None:
    async def main() -> None:
        uppers = Uppers(str(state), run_helper, SMALL, ahead)
        await uppers.start()
        try:
            await work(uppers)
        finally:
            await uppers.stop()

    anyio.run(main)


def backing_files(state: Path) -> list[str]:
    """Loop devices of the whole host whose (deleted) backing file lies in this test's folder."""
    found = []
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            name = device.read_text()
        except OSError:
            continue  # gone meanwhile
        if name.startswith(str(state)):
            found.append(str(device))
    return found


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    wait_until_gone(tmp_path)


def wait_until_gone(state: Path) -> None:
    async def gone() -> None:
        with anyio.fail_after(20):
            # the kernel tells nobody when a loop device clears itself
            while backing_files(state):  # noqa: ASYNC110
                await anyio.sleep(0.01)

    anyio.run(gone)


def overlay(upper: Upper, lower: Path) -> int:
    lower.mkdir(exist_ok=True)
    return detached_overlay(lower.parent, [lower.name], upper)


def fill(root: int, limit: int) -> tuple[int, int]:
    """(bytes written, errno) of a file that grows until the kernel says no, or to `limit`."""
    file = os.open("fill", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=root)
    written = 0
    try:
        while written < limit:
            written += os.write(file, bytes(1 << 16))
        return written, 0
    except OSError as error:
        return written, error.errno or 0
    finally:
        os.close(file)


def test_limit_bites_through_an_overlay(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        upper = await uppers.acquire(SMALL)
        root = overlay(upper, tmp_path / "lower")
        written, reason = fill(root, 2 * SMALL)
        os.close(root)
        await uppers.release(upper)
        assert reason == errno.ENOSPC
        assert SMALL * 0.9 < written <= SMALL

    with_uppers(tmp_path / "state", work)


def test_control_without_the_limit_the_same_bytes_fit(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        upper = await uppers.acquire(4 * SMALL)
        root = overlay(upper, tmp_path / "lower")
        assert fill(root, 2 * SMALL) == (2 * SMALL, 0)
        os.close(root)
        await uppers.release(upper)

    with_uppers(tmp_path / "state", work)


def test_inodes_are_limited_too(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        upper = await uppers.acquire(LEAST_BYTES)
        folder = os.open("upper", os.O_DIRECTORY, dir_fd=upper.fd)
        with pytest.raises(OSError) as caught:
            for number in range(10_000):
                os.mknod(f"{number}", 0o600, dir_fd=folder)
        os.close(folder)
        await uppers.release(upper)
        assert caught.value.errno == errno.ENOSPC

    with_uppers(tmp_path / "state", work)


def test_two_uppers_of_one_size_share_nothing(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        first, second = await uppers.acquire(SMALL), await uppers.acquire(SMALL)
        os.close(os.open("upper/mine", os.O_CREAT | os.O_WRONLY, dir_fd=first.fd))
        assert not exists("upper/mine", second.fd)
        assert first.device != second.device
        await uppers.release(first)
        third = await uppers.acquire(SMALL)  # used once, never recycled
        assert not exists("upper/mine", third.fd)
        await uppers.release(second)
        await uppers.release(third)

    with_uppers(tmp_path / "state", work, ahead=2)


def exists(path: str, dir_fd: int) -> bool:
    try:
        os.stat(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True


def test_appears_in_no_mount_table_and_has_no_name(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        upper = await uppers.acquire(SMALL)
        assert upper.device not in Path("/proc/self/mountinfo").read_text()
        assert sorted(os.listdir(tmp_path / "state/uppers")) == [f"template-{SMALL}"]
        await uppers.release(upper)

    with_uppers(tmp_path / "state", work)


def test_owner_and_modes_of_the_root(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        upper = await uppers.acquire(SMALL, owner=(1_900_000_000, 1_900_000_001))
        found = os.stat("upper", dir_fd=upper.fd)
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1_900_000_000, 1_900_000_001, 0o755)
        assert os.stat("work", dir_fd=upper.fd).st_uid == 0
        assert os.stat(tmp_path / "state/uppers").st_mode & 0o7777 == 0o700
        await uppers.release(upper)

    with_uppers(tmp_path / "state", work, ahead=1)


def test_overlay_keeps_working_after_release_and_frees_everything_at_its_end(tmp_path: Path) -> None:
    """The daemon may restart while the job runs."""

    async def work(uppers: Uppers) -> None:
        upper = await uppers.acquire(SMALL)
        root = overlay(upper, tmp_path / "lower")
        await uppers.release(upper)
        os.close(os.open("late", os.O_CREAT | os.O_WRONLY, dir_fd=root))
        assert backing_files(tmp_path)
        os.close(root)

    with_uppers(tmp_path / "state", work)


def test_discard_throws_unwritten_bytes_away_and_a_plain_release_does_not(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        for discard in (False, True):
            upper = await uppers.acquire(SMALL)
            root = overlay(upper, tmp_path / "lower")
            await uppers.release(upper, discard=discard)
            if discard:
                with pytest.raises(OSError, match="Input/output error"):
                    fill(root, 1 << 16)
            else:
                assert fill(root, 1 << 16) == (1 << 16, 0)
            os.close(root)

    with_uppers(tmp_path / "state", work)


def test_sigkill_leaves_no_loop_device(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import anyio, os, signal
        from runtime.images.uppers import Uppers
        from tests.builders_images import run_helper
        async def main():
            uppers = Uppers({str(tmp_path / "state")!r}, run_helper, {SMALL}, 3)
            await uppers.start()
            await uppers.acquire({SMALL})
            print(len(open("/proc/self/mountinfo").read()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        anyio.run(main)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={"PYTHONPATH": ROOT, "PATH": os.environ["PATH"]}, stdout=-1
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout
    wait_until_gone(tmp_path)
    assert sorted(os.listdir(tmp_path / "state/uppers")) == [f"template-{SMALL}"]


def test_an_upper_attached_for_a_moment_works_for_kernels_before_6_15(tmp_path: Path) -> None:
    """There `clone_private_mount` refuses a detached mount; the monitor attaches, mounts the overlay, detaches."""
    stage, lower = tmp_path / "stage", tmp_path / "lower"
    stage.mkdir()
    lower.mkdir()
    program = textwrap.dedent(f"""
        import os, sys
        from runtime import syscalls as s
        s.unshare(s.CLONE_NEWNS)
        s.mount("none", "/", "", s.MS_REC | s.MS_PRIVATE)
        s.move_mount({{fd}}, s.AT_FDCWD, {str(stage)!r})
        fs = s.fsopen("overlay")
        s.fsconfig_set(fs, "lowerdir", {str(lower)!r})
        s.fsconfig_set(fs, "upperdir", {str(stage / "upper")!r})
        s.fsconfig_set(fs, "workdir", {str(stage / "work")!r})
        s.fsconfig_create(fs)
        root = s.fsmount(fs)
        s.umount2({str(stage)!r}, s.MNT_DETACH)
        os.close({{fd}})
        assert "loop" not in open("/proc/self/mountinfo").read()
        os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=root))
        print("written")
    """)

    async def work(uppers: Uppers) -> None:
        upper = await uppers.acquire(SMALL)
        done = await anyio.run_process(
            [sys.executable, "-c", program.format(fd=upper.fd)],
            env={"PYTHONPATH": ROOT},
            pass_fds=[upper.fd],
            stderr=None,
        )
        assert done.stdout == b"written\n"
        assert exists("upper/x", upper.fd)
        await uppers.release(upper)

    with_uppers(tmp_path / "state", work)


def test_many_at_once(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        held: list[Upper] = []

        async def take() -> None:
            held.append(await uppers.acquire(SMALL))

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(take)
        assert len({upper.device for upper in held}) == 30
        for upper in held:
            await uppers.release(upper)

    before = loopfs.loop_devices()
    with_uppers(tmp_path / "state", work, ahead=2)
    wait_until_gone(tmp_path)
    assert len(loopfs.loop_devices() - before) <= 30


def test_too_small_is_refused_by_name(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        with pytest.raises(Unsupported, match="too small"):
            await uppers.acquire(LEAST_BYTES - 1)

    with_uppers(tmp_path / "state", work)


def test_impossible_size_names_the_step_and_leaves_nothing(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        with pytest.raises(StepFailed, match="upper:mkfs"):
            await uppers.acquire(1 << 62)
        assert sorted(os.listdir(tmp_path / "state/uppers")) == [f"template-{SMALL}"]

    with_uppers(tmp_path / "state", work, ahead=1)


def test_damaged_template_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        template = tmp_path / f"state/uppers/template-{SMALL}"
        template.write_bytes(b"")
        os.truncate(template, SMALL)
        with pytest.raises(StepFailed, match="upper:mount") as caught:
            await uppers.acquire(SMALL)
        assert "made again" in caught.value.hint
        template.unlink()
        await uppers.release(await uppers.acquire(SMALL))

    with_uppers(tmp_path / "state", work)


def test_sweep_names_what_a_killed_daemon_left(tmp_path: Path) -> None:
    async def work(uppers: Uppers) -> None:
        stray = tmp_path / "state/uppers/new-123"
        stray.touch()
        assert await uppers.sweep(set()) == [str(stray)]
        assert not stray.exists()

    with_uppers(tmp_path / "state", work)
