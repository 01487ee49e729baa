"""Start, stop, crash and restart: nothing lost of what lives, nothing left of what does not."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from netlab import HOST, WORLD, Lab, connects, listening, run
from pyroute2 import AsyncIPRoute

from jobs.errors import StepFailed
from jobs.priority_class import PriorityClass
from jobs.spec import Publish
from netbridge import sysctl
from netbridge.network import Attachment, Network
from netbridge.wiring import LinkUp

_NOISE = ("net/ipv4/neigh", "net/ipv6/neigh", "net/netfilter/nf_conntrack_count")


def picture() -> dict[str, str]:
    """All that the network could leave behind: links, addresses, routes, tables, every sysctl of the namespace."""
    found = {
        "links": ", ".join(f"{each['ifname']} {each['address']}" for each in json.loads(run("ip", "-j", "link"))),
        "addresses": run("ip", "-o", "-4", "address"),
        "routes": run("ip", "-4", "route", "show", "table", "all"),
        "tables": run("nft", "list", "ruleset"),
        "qdiscs": run("tc", "qdisc"),
    }
    for folder, _, names in os.walk("/proc/sys/net"):
        for name in names:
            path = f"{folder}/{name}".removeprefix("/proc/sys/")
            if not path.startswith(_NOISE):
                found[path] = sysctl.read(path) or ""
    return found


@pytest.mark.parametrize("forwarding", ["0", "1"])
def test_stop_leaves_nothing(lab: Lab, forwarding: str) -> None:
    async def main() -> None:
        sysctl.write("net/ipv4/ip_forward", forwarding)
        sysctl.write("net/ipv4/conf/up0/forwarding", "1")  # on its own: must come back as it was
        sysctl.write("net/ipv4/conf/all/accept_redirects", "0")
        before = picture()
        network = Network(lab.settings())
        await network.start()
        job = await lab.job(network, publish=(Publish(8080, 80),), rate_bits_s=10**7)
        await lab.slot(network)
        assert picture()["net/ipv4/ip_forward"] == "1"
        assert connects(None, job.address, 80) is False  # nobody listens; the host's end was used
        await network.stop()
        await network.stop()
        assert picture() == before
        assert os.listdir(lab.state_dir) == []
        with listening(None, "0.0.0.0", 8080):
            pass

    anyio.run(main)


def test_a_failed_start_leaves_nothing(lab: Lab) -> None:
    async def main() -> None:
        run("ip", "link", "add", "jobs0", "type", "bridge")
        before = picture()
        with pytest.raises(StepFailed) as refusal:
            await Network(lab.settings()).start()
        assert (refusal.value.step, refusal.value.errno, refusal.value.path) == ("net:bridge", errno.EEXIST, "jobs0")
        assert picture() == before  # a stranger's bridge is not ours to remove
        with pytest.raises(StepFailed, match="net:subnet"):
            await Network(lab.settings(bridge="jobs1", subnet="198.51.0.0/16")).start()
        assert picture() == before

    anyio.run(main)


@pytest.mark.parametrize("stage", ["DefaultRoute", "AddAddress", "LinkUp"])
def test_a_failed_prepare_leaves_nothing(lab: Lab, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespace is gone bad: a real refusal by the kernel at each step inside it."""

    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        before = picture()
        space = lab.space()
        _spoil(monkeypatch, stage)
        with pytest.raises(StepFailed) as refusal:
            await network.prepare(space.netlink.fileno(), space.fd)
        assert refusal.value.step in ("net:route", "net:address", "net:up")
        monkeypatch.undo()
        assert {**picture(), "routes": ""} == {**before, "routes": ""}
        assert (await lab.slot(network)).address == "10.213.0.3"  # the first address was given back, its turn is over
        await network.stop()

    anyio.run(main)


def _spoil(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    from netbridge import pool, wiring

    real = wiring.job_steps

    def spoiled(*args: object) -> tuple[wiring.Step, ...]:
        steps = real(*args)  # type: ignore[arg-type]
        at = next(i for i, step in enumerate(steps) if type(step).__name__ == stage)
        bad = {
            "DefaultRoute": wiring.DefaultRoute("192.0.2.99"),  # no such neighbour network: ENETUNREACH
            "AddAddress": wiring.AddAddress("gone0", "10.213.0.2", 16, "10.213.255.255"),  # ENODEV
            "LinkUp": LinkUp("gone0"),
        }[stage]
        return (*steps[:at], bad)

    monkeypatch.setattr(pool, "job_steps", spoiled)


def test_restart_keeps_live_jobs_and_sweeps_the_rest(lab: Lab) -> None:
    async def main() -> None:
        first = Network(lab.settings())
        await first.start()
        publish = (Publish(8080, 80),)
        live, sibling = await lab.job(first, publish=publish, name="web"), await lab.job(first, name="db")
        dead = await lab.job(first, owner=1001, name="gone", publish=(Publish(9090, 90),))
        unused = await lab.slot(first)
        first._attachments.release_ports()  # what the kernel does with a killed daemon's sockets
        del first

        second = Network(lab.settings())
        await second.start()
        assert second.adopt("1.0.1") == live.attachment
        assert second.adopt("2.0.1") == sibling.attachment
        assert second.adopt("1.0.1") == live.attachment  # safe to repeat
        assert second.adopt("77.0.1") is None
        fresh = await lab.slot(second)  # before the sweep: takes no address of the old ones
        assert fresh.address not in (live.address, sibling.address, dead.address, unused.address)
        removed = await second.sweep({live.address, sibling.address})
        assert removed == [
            f"network of execution 3.0.1 at {dead.address}",
            f"link {dead.attachment.link}",
            f"link {unused.attachment.link}",
        ]
        assert await second.sweep({live.address, sibling.address}) == []
        assert dead.address not in run("nft", "list", "ruleset")
        assert not os.path.exists(f"{lab.state_dir}/hosts/1001")
        with live.listen(80):
            assert connects(sibling.space, live.address, 80)
            assert connects(lab.world, HOST, 8080)
        with listening(lab.world, WORLD, 80):
            assert connects(live.space, WORLD, 80)
        with pytest.raises(OSError, match="in use"):
            listening(None, "0.0.0.0", 8080)  # held again
        with listening(None, "0.0.0.0", 9090):
            pass
        await second.set_priority(live.address, PriorityClass.HIGH)
        await second.detach(live.attachment)
        await second.detach(sibling.attachment)
        await second.stop()

    anyio.run(main)


_VICTIM = """
import os, signal, sys, anyio
sys.path[:0] = {paths!r}
from netlab import Lab
from netbridge.network import Network, NetworkSettings
from netbridge import attach
from jobs.priority_class import PriorityClass

async def main():
    network = Network(NetworkSettings("jobs0", "10.213.0.0/16", "jobs", {state!r}, host_dir={state!r} + "/run"))
    point, left = {point!r}, [{calls}]

    def die_at(owner, name):
        real = getattr(owner, name)
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        setattr(owner, name, wrapped)

    from netbridge import bridge, sysctl
    from netbridge.ledger import Ledger
    from netbridge.netlink import Netlink
    from netbridge.nft import Nft
    owner = {{"perform": Netlink, "_perform": Netlink, "_run": Nft, "write": Ledger}}.get(point)
    die_at(sysctl if point == "sysctl" else owner, "write" if point == "sysctl" else point)
    await network.start()
    lab = Lab(None, {state!r})
    await lab.job(network, rate_bits_s=10**7)
    await lab.job(network)
    os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


@pytest.mark.parametrize(
    ("point", "calls"),
    [("_perform", n) for n in range(10)]
    + [("_run", n) for n in range(3)]
    + [("sysctl", n) for n in range(3)]
    + [("write", n) for n in range(2)]
    + [("write", 99)],
)
def test_killed_anywhere_the_next_stop_restores_the_host(lab: Lab, point: str, calls: int) -> None:
    """SIGKILL before the n-th step, transaction, setting or ledger entry; then a new daemon starts, sweeps, stops."""

    async def afterwards() -> None:
        network = Network(lab.settings())
        await network.start()
        await network.sweep(set())
        job, sibling = await lab.job(network), await lab.job(network)
        with job.listen(80), listening(lab.world, WORLD, 80):
            assert connects(sibling.space, job.address, 80)
            assert connects(job.space, WORLD, 80)
        await network.stop()

    before = picture()
    root = Path(__file__).parents[3]
    paths = [str(root), str(root / "tests"), str(Path(__file__).parent)]
    program = _VICTIM.format(paths=paths, state=lab.state_dir, point=point, calls=calls)
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    anyio.run(afterwards)
    assert picture() == before


def test_a_flushed_ruleset_heals_at_the_next_change(lab: Lab) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        job = await lab.job(network)
        for change in ("attach", "priority", "detach"):
            run("nft", "flush", "ruleset")
            if change == "attach":
                sibling = await lab.job(network)
            elif change == "priority":
                await network.set_priority(job.address, PriorityClass.HIGH)
            else:
                await network.detach(sibling.attachment)
            assert job.address in run("nft", "list", "table", "inet", "jobs")
        assert sibling.address not in run("nft", "list", "ruleset")
        await network.stop()

    anyio.run(main)


def test_two_instances_side_by_side(lab: Lab) -> None:
    async def main() -> None:
        one = Network(lab.settings())
        two = Network(
            lab.settings(bridge="demo0", subnet="10.214.0.0/24", nft_table="demo", state_dir=f"{lab.state_dir}/2")
        )
        await one.start()
        await two.start()
        here, there = await lab.job(one), await lab.job(two)
        with there.listen(80), here.listen(80), listening(lab.world, WORLD, 80):
            assert not connects(here.space, there.address, 80, timeout_s=0.3)
            assert connects(there.space, WORLD, 80)
            await one.sweep({here.address})
            await two.stop()
            assert connects(here.space, WORLD, 80)
        assert "demo" not in run("nft", "list", "ruleset") + run("ip", "link")
        await one.stop()

    anyio.run(main)


def test_a_firewall_that_drops_is_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """An accept of ours does not help against it; the message says where to look."""

    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        assert await network.obstacles() == []
        run(
            "nft",
            "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
        )
        job = await lab.job(network)
        with listening(lab.world, WORLD, 80):
            assert not connects(job.space, WORLD, 80, timeout_s=0.3)
        await Network(lab.settings()).start()
        assert "ip table filter, chain FORWARD: drops by default" in caplog.text
        await network.stop()

    anyio.run(main)


def test_another_bridge_of_the_host_is_left_alone(lab: Lab) -> None:
    """Whatever else is bridged here, say by a container engine, does not notice us."""

    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        run("ip", "link", "add", "br9", "type", "bridge")
        run("ip", "link", "set", "br9", "up")
        stations = [lab.space(), lab.space()]
        async with AsyncIPRoute() as host:
            for number, space in enumerate(stations):
                peer = {"ifname": "eth0", "net_ns_fd": space.fd}
                await host.link("add", ifname=f"port{number}", kind="veth", peer=peer)
                run("ip", "link", "set", f"port{number}", "master", "br9", "up")
                space.run("ip", "address", "add", f"192.168.9.{number + 1}/24", "dev", "eth0")
                space.run("ip", "link", "set", "eth0", "up")
        with listening(stations[1], "192.168.9.2", 80):
            assert connects(stations[0], "192.168.9.2", 80, timeout_s=5)
        run("ip", "link", "del", "br9")
        await network.stop()

    anyio.run(main)


@pytest.mark.parametrize("first", [0, 1])
def test_the_last_of_two_instances_gives_the_host_back(lab: Lab, first: int) -> None:
    """In whichever order they stop, and though each crashed once: forwarding lasts as long as either needs it."""

    async def main() -> None:
        before = picture()
        settings = [
            lab.settings(),
            lab.settings(bridge="demo0", subnet="10.214.0.0/24", nft_table="demo", state_dir=f"{lab.state_dir}/2"),
        ]
        for each in (*settings, *settings):  # the second round takes over from the first, as after a crash
            network = Network(each)
            await network.start()
        await Network(settings[first]).stop()
        assert sysctl.read("net/ipv4/ip_forward") == "1"
        other = Network(settings[1 - first])
        await other.start()
        job = await lab.job(other)
        with listening(lab.world, WORLD, 80):
            assert connects(job.space, WORLD, 80)
        await other.stop()
        assert picture() == before
        assert not os.path.exists(f"{lab.state_dir}/run")

    anyio.run(main)


def test_a_host_that_did_not_forward_still_does_not(lab: Lab) -> None:
    """Our ip_forward=1 is for jobs: between its other links the host stays as closed as it was."""

    async def main() -> None:
        inner = lab.space()
        async with AsyncIPRoute() as host:
            await host.link("add", ifname="in0", kind="veth", peer={"ifname": "in1", "net_ns_fd": inner.fd})
        run("ip", "address", "add", "203.0.113.1/24", "dev", "in0")
        run("ip", "link", "set", "in0", "up")
        inner.run("ip", "address", "add", "203.0.113.2/24", "dev", "in1")
        inner.run("ip", "link", "set", "in1", "up")
        inner.run("ip", "route", "add", "default", "via", "203.0.113.1")
        lab.world.run("ip", "route", "add", "203.0.113.0/24", "via", HOST)
        with listening(lab.world, WORLD, 80):
            sysctl.write("net/ipv4/ip_forward", "1")
            assert connects(inner, WORLD, 80)  # the control
            sysctl.write("net/ipv4/ip_forward", "0")
            network = Network(lab.settings())
            await network.start()
            job = await lab.job(network)
            assert not connects(inner, WORLD, 80, timeout_s=0.3)
            assert connects(job.space, WORLD, 80)
            await network.stop()

    anyio.run(main)


@pytest.mark.parametrize("step", ["net:ledger", "net:publish", "net:policy", "net:hosts", "net:rate"])
def test_a_failed_attach_leaves_nothing(lab: Lab, step: str) -> None:
    """Each step is refused by the real thing; what came before it is taken back, and the slot can be attached after."""

    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        job = await lab.slot(network)
        before = {**picture(), **_files(lab)}
        impossible = {"owner_uid": 1 << 40} if step == "net:policy" else {}  # nftables takes no such uid
        with _refusing(lab, job.attachment.link, step), pytest.raises(StepFailed) as refusal:
            await _attach(network, job.attachment, **impossible)
        assert refusal.value.step == step
        assert {**picture(), **_files(lab)} == before
        with listening(None, "0.0.0.0", 8080):
            pass
        await _attach(network, job.attachment)
        await network.detach(job.attachment)
        await network.stop()

    anyio.run(main)


def test_a_cancelled_attach_leaves_nothing(lab: Lab) -> None:
    """Cancelled at every point where it waits, one after the other, until one attach gets through."""

    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        job = await lab.slot(network)
        before = {**picture(), **_files(lab)}
        waits, attached = 0, False
        while not attached:
            attached = await _cancelled_after(waits, _attach(network, job.attachment))
            if attached:
                await network.detach(job.attachment)
            left = {**picture(), **_files(lab)}
            # The bucket goes with the veth, as after any execution.
            assert {**left, "qdiscs": ""} == {**before, "qdiscs": ""}, f"after {waits} waits"
            waits += 1
        assert waits > 3
        await network.stop()

    anyio.run(main)


async def _attach(network: Network, attachment: Attachment, owner_uid: int = 1000) -> None:
    await network.attach(
        attachment, execution_id="50.0.1", owner_uid=owner_uid, job_name="web", priority_class=PriorityClass.NORMAL,
        publish=(Publish(8080, 80),), rate_bits_s=10**6,
    )  # fmt: skip


async def _cancelled_after(waits: int, work: Coroutine[Any, Any, None]) -> bool:
    """Runs the work and cancels it when it waits for the n-th time; True when it was done before."""
    with anyio.CancelScope() as scope:
        await _Counted(work, waits, scope.cancel)
    return not scope.cancelled_caught


class _Counted:
    """Awaits a coroutine; calls `act` at its n-th wait."""

    def __init__(self, work: Coroutine[Any, Any, None], waits: int, act: Callable[[], None]) -> None:
        self._work, self._waits, self._act = work, waits, act

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        sent: Any = None
        failed: BaseException | None = None
        while True:
            try:
                waited = steps.throw(failed) if failed else steps.send(sent)
            except StopIteration:
                return
            if self._waits == 0:
                self._act()
            self._waits -= 1
            try:
                sent, failed = (yield waited), None
            except BaseException as error:
                sent, failed = None, error


def _files(lab: Lab) -> dict[str, str]:
    """The ledger, and what the hosts files say."""
    root = Path(lab.state_dir)
    ledger = {str(path): "" for path in root.glob("net/*.json*")}
    return ledger | {str(path): text for path in root.glob("hosts/*/hosts") if "job-" in (text := path.read_text())}


def _rename(link: str, name: str) -> None:
    """Before Linux 6.2 only a link that is down can be renamed."""
    run("ip", "link", "set", link, "down")
    run("ip", "link", "set", link, "name", name)
    run("ip", "link", "set", name, "up")


@contextmanager
def _refusing(lab: Lab, link: str, step: str) -> Iterator[None]:
    """Makes the host refuse this step of an attach."""
    state = Path(lab.state_dir)
    match step:
        case "net:ledger":
            (state / "net/50.0.1.json.new").mkdir()
            yield
            (state / "net/50.0.1.json.new").rmdir()
        case "net:publish":
            with listening(None, "0.0.0.0", 8080):
                yield
        case "net:rate":
            _rename(link, "elsewhere")
            yield
            _rename("elsewhere", link)
        case "net:hosts":
            (state / "hosts").mkdir(exist_ok=True)
            (state / "hosts/1000").write_text("a file where a folder should be")
            yield
            (state / "hosts/1000").unlink()
        case "net:policy":
            yield
