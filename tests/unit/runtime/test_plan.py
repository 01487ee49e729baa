"""The planned order. Each rule here is forced by the kernel or by an attack; the comment says which."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.events import Owner
from jobs.host import ControllerMount, HostCaps
from jobs.spec import JobSpec, Resources
from runtime import steps as s
from runtime.plan import BoundMount, ImageRoot, Inputs, environment, exec_request, identity, plan, workdir

BASE = 1_879_048_192
HYBRID = HostCaps(
    "6.18",
    "boot",
    {
        "memory": ControllerMount("memory", 1, "/sys/fs/cgroup/memory"),
        "io": ControllerMount("io", 1, "/sys/fs/cgroup/blkio"),
    },
    "/sys/fs/cgroup/unified",
    "v2",
    frozenset(),
    submounts=("/usr", "/home", "/run/user/0", "/opt"),
)
PURE_V2 = replace(
    HYBRID, controllers={"memory": ControllerMount("memory", 2, "/sys/fs/cgroup")}, unified="/sys/fs/cgroup"
)


def inputs(**changes: Any) -> Inputs:
    keys = {
        key: changes.pop(key)
        for key in list(changes)
        if key in ("command", "script", "run_as", "resources", "submit_dir", "numa")
    }
    spec = JobSpec(name="x", **{"command": ("true",), "workdir": "", **keys})
    values: dict[str, Any] = {
        "execution_id": "7.0.1",
        "spec": spec,
        "owner": Owner(1000, 1000, (1000, 2000), "alice"),
        "caps": HYBRID,
        "id_base": BASE,
        "image": ImageRoot("host", ("/",)),
        "spool": "/state/spool/7.0.1",
        "hostname": "job-7",
        "init": "/usr/bin/catatonit",
        "userns_fd": 0,
        "netns_fd": 1,
        "mon_procs": ("/m",),
        "run_procs": ("/r",),
        "hosts_dir": "/state/hosts/1000",
        "resolv": "nameserver 10.0.0.1\n",
        "hide": ("/state",),
        "seccomp": b"\0" * 8,
    }
    return Inputs(**(values | changes))


ANY_INPUTS = st.builds(
    lambda kind, caps, networked, run_as, mounts, seccomp, groups: inputs(
        image=ImageRoot(kind, ("/",), kind == "layers"),
        caps=caps,
        netns_fd=1 if networked else -1,
        run_as=run_as,
        mounts=tuple(BoundMount(index + 2, target) for index, target in enumerate(mounts)),
        seccomp=seccomp,
        run_procs=groups,
    ),
    st.sampled_from(["host", "layers"]),
    st.sampled_from([HYBRID, PURE_V2]),
    st.booleans(),
    st.sampled_from(["me", "root", "5"]),
    st.lists(st.sampled_from(["/data", "/data/deep", "/tmp/x", "/proc/sys", "/usr/local"]), unique=True, max_size=4),
    st.sampled_from([b"", b"\0" * 8]),
    st.sampled_from([(), ("/r",)]),
)


def kinds(listed: tuple[s.Step, ...]) -> list[type]:
    return [type(step) for step in listed]


def before(listed: tuple[s.Step, ...], first: type, second: type) -> bool:
    order = kinds(listed)
    return max(index for index, kind in enumerate(order) if kind is first) < order.index(second)


@given(ANY_INPUTS)
def test_powers_are_given_up_in_the_only_order_that_works(given_inputs: Inputs) -> None:
    drop = plan(given_inputs).stages.drop
    assert kinds(drop)[-1] is s.Execute
    assert before(drop, s.DropBounding, s.BecomeUser)  # CAP_SETPCAP goes with the ids
    assert before(drop, s.BecomeUser, s.DropCapabilities)  # CAP_SETUID too
    assert before(drop, s.BecomeUser, s.Keyring)  # the keyring belongs to the job's user
    assert before(drop, s.BecomeUser, s.WorkingFolder)  # looked at with the user's rights
    assert before(drop, s.WorkingFolder, s.FindProgram)  # a relative program is relative to it
    assert s.NoNewPrivileges in kinds(drop)
    if given_inputs.seccomp:
        assert kinds(drop)[-2] is s.Seccomp  # last: it need allow nothing that only we do
        assert before(drop, s.NoNewPrivileges, s.Seccomp)  # or it would need CAP_SYS_ADMIN
    else:
        assert s.Seccomp not in kinds(drop)


@given(ANY_INPUTS)
def test_the_container_is_furnished_in_the_only_order_that_works(given_inputs: Inputs) -> None:
    stages = plan(given_inputs).stages
    container = stages.container
    assert kinds(container)[0] is s.BecomeRoot  # or files have ids that the namespace does not map: EOVERFLOW
    assert kinds(container)[-1] is s.Pivot
    placed = max(index for index, step in enumerate(container) if isinstance(step, s.Place))
    masks = [
        index
        for index, step in enumerate(container)
        if isinstance(step, s.ReadOnly | s.Cover) and step.path.startswith("/proc")
    ]
    assert placed < min(masks)  # a mount of the job may not lie over a mask
    assert (
        kinds(stages.enter)[-1] is s.EnterNamespaces
    )  # groups need the host's power, and "/" needs them joined before


@given(ANY_INPUTS)
def test_nothing_is_placed_that_was_not_taken(given_inputs: Inputs) -> None:
    stages = plan(given_inputs).stages
    taken = [step.name for step in stages.prepare if isinstance(step, s.Bind | s.Private)]
    placed = [step.name for step in stages.container if isinstance(step, s.Place)]
    assert sorted(taken) == sorted(placed)


@given(ANY_INPUTS)
def test_outer_mounts_come_before_inner_ones(given_inputs: Inputs) -> None:
    targets = [step.target for step in plan(given_inputs).stages.container if isinstance(step, s.Fresh | s.Place)]
    for index, target in enumerate(targets):
        if target.startswith(("/data", "/tmp", "/dev", "/run", "/sys")):
            assert not [later for later in targets[index + 1 :] if target.startswith(later + "/")], target


@given(ANY_INPUTS)
def test_what_the_monitor_reads_is_what_was_planned(given_inputs: Inputs) -> None:
    built = plan(given_inputs)
    assert s.monitor_orders_from_json(built.to_bytes()) == built.orders
    assert s.stages_from_json(built.to_bytes()) == built.stages


@given(ANY_INPUTS)
def test_every_step_describes_itself(given_inputs: Inputs) -> None:
    built = plan(given_inputs)
    assert len(built.describe()) == sum(map(len, built.stages))
    assert all(line.count(": ") >= 2 for line in built.describe())


# ── single rules ────────────────────────────────────────────────────────────────────────────────────────────────────


def fresh(given_inputs: Inputs) -> dict[str, s.Fresh]:
    return {step.target: step for step in plan(given_inputs).stages.container if isinstance(step, s.Fresh)}


def binds(given_inputs: Inputs) -> dict[str, s.Bind]:
    return {step.name: step for step in plan(given_inputs).stages.prepare if isinstance(step, s.Bind)}


def test_only_the_owner_of_the_network_namespace_mounts_sysfs() -> None:
    assert "/sys" in fresh(inputs())
    assert "/sys" not in fresh(inputs(netns_fd=-1))
    assert binds(inputs(netns_fd=-1))["sys"].read_only


def test_a_host_image_hides_what_is_not_for_strangers() -> None:
    steps = plan(inputs()).stages.container
    assert {"/tmp", "/root", "/home", "/run"} <= set(fresh(inputs()))
    assert s.Cover("/state") in steps
    assert s.Cover("/state") not in plan(inputs(image=ImageRoot("layers", ("/x",)))).stages.container


def test_the_default_run_folder_does_not_hide_our_own_folder_in_the_job() -> None:
    steps = plan(inputs(hide=("/state", "/run/jobs"))).stages.container
    assert s.Cover("/state") in steps
    assert s.Cover("/run/jobs") not in steps


def test_submounts_of_a_host_image_are_bound_read_only_unless_hidden_anyway() -> None:
    taken = binds(inputs())
    assert taken["/usr"].read_only
    assert taken["/opt"].optional  # it may be unmounted meanwhile
    assert not {"/home", "/run/user/0"} & set(taken)
    assert "/usr" not in binds(inputs(image=ImageRoot("layers", ("/x",))))


def test_a_host_image_is_never_idmapped() -> None:
    overlay = next(step for step in plan(inputs()).stages.prepare if isinstance(step, s.Overlay))
    assert (overlay.idmap_fd, overlay.owner) == (-1, 0)


def test_layers_are_idmapped_with_the_jobs_own_namespace() -> None:
    image = ImageRoot("layers", ("/top", "/bottom"), idmapped=True)
    overlay = next(step for step in plan(inputs(image=image)).stages.prepare if isinstance(step, s.Overlay))
    assert (overlay.lower, overlay.idmap_fd, overlay.owner) == (("/top", "/bottom"), 0, BASE)


def test_proc_sys_and_dev_are_never_reached_through_a_link() -> None:
    found = fresh(inputs())
    assert [found[path].plain for path in ("/proc", "/sys", "/dev")] == [True] * 3


def test_mount_points_inside_a_bound_folder_are_not_made_by_the_hosts_root() -> None:
    """T8, T9: what the host's root makes lies in the overlay only, never in a folder of a user."""
    mounts = (BoundMount(2, "/data"), BoundMount(3, "/data/deep"), BoundMount(4, "/tmp/x"), BoundMount(5, "/srv/x"))
    made = {step.path for step in plan(inputs(mounts=mounts)).stages.prepare if isinstance(step, s.RootFolder)}
    assert {"/data", "/srv/x"} <= made
    assert not {"/data/deep", "/tmp/x"} & made


def test_pure_v2_has_one_hierarchy_at_the_root_of_the_folder() -> None:
    """Also with net_cls and net_prio mounted privately beside it: runtimes look for memory.max at that place."""
    private = {name: ControllerMount(name, 1, f"/run/jobs/cgroup/{name}") for name in ("net_cls", "net_prio")}
    for caps in (PURE_V2, replace(PURE_V2, controllers={**PURE_V2.controllers, **private})):
        shown = {target: step for target, step in fresh(inputs(caps=caps)).items() if target.startswith("/sys/fs/cgr")}
        assert [(target, step.fstype) for target, step in shown.items()] == [("/sys/fs/cgroup", "cgroup2")]
    hybrid = fresh(inputs())
    assert hybrid["/sys/fs/cgroup/blkio"].options == (("blkio", ""),)
    assert hybrid["/sys/fs/cgroup/unified"].fstype == "cgroup2"
    assert all(step.read_only for target, step in hybrid.items() if target.startswith("/sys/fs/cgroup/"))


def test_devices_are_bound_with_device_nodes_allowed_and_nothing_else_is() -> None:
    taken = binds(inputs(resources=Resources(devices=("/dev/fuse",))))
    assert {name for name, step in taken.items() if step.device} == {
        "/dev/fuse",
        "dev/null",
        "dev/zero",
        "dev/full",
        "dev/random",
        "dev/urandom",
        "dev/tty",
    }


@pytest.mark.parametrize(
    ("run_as", "expected"),
    [
        ("me", (1000, 1000, (1000, 2000), BASE + 1000)),
        ("root", (0, 0, (), BASE)),
        ("65535", (65535, 65535, (), BASE + 65535)),
    ],
)
def test_whom_it_runs_as(run_as: str, expected: tuple[Any, ...]) -> None:
    who = identity(inputs(run_as=run_as).spec, inputs().owner, BASE)
    assert (who.uid, who.gid, who.groups, who.host_uid) == expected


def test_ids_above_65535_need_a_line_of_their_own() -> None:
    owner = Owner(200_000, 300_000, (300_000, 400_000, 100))
    with pytest.raises(ValueError, match="no place"):
        identity(inputs().spec, owner, BASE)
    who = identity(inputs().spec, owner, BASE, ((200_000, 5),), ((300_000, 6),))
    assert (who.host_uid, who.host_gid, who.groups) == (5, 6, (300_000, 100))  # an unmapped group is left out


def test_the_environment_later_ones_win() -> None:
    image = ImageRoot("layers", ("/x",), env=(("PATH", "/image"), ("A", "image"), ("B", "image")))
    given_inputs = inputs(image=image, env=(("A", "daemon"),))
    given_inputs = replace(given_inputs, spec=replace(given_inputs.spec, env=(("B", "spec"),)))
    found = dict(environment(given_inputs))
    assert (found["PATH"], found["A"], found["B"], found["JOBS_ID"]) == ("/image", "daemon", "spec", "7")


@pytest.mark.parametrize("name", ["../etc", "a/b", "", "x" * 65, "a\nb", "."])
def test_a_strange_user_name_is_no_path(name: str) -> None:
    found = dict(environment(inputs(owner=Owner(1000, 1000, (), name))))
    assert found["HOME"] == "/home/1000"


def test_the_working_folder() -> None:
    image = ImageRoot("layers", ("/x",), workdir="/image")
    assert workdir(inputs()) == "/"
    assert workdir(inputs(image=image)) == "/image"
    submitted = inputs(image=image, submit_dir="ro")
    submitted = replace(submitted, spec=replace(submitted.spec, submitted_from="/from"))
    assert workdir(submitted) == "/from"
    assert workdir(replace(submitted, spec=replace(submitted.spec, workdir="/said"))) == "/said"


def test_a_script_is_a_file_of_the_jobs_own_run_folder() -> None:
    built = plan(inputs(command=(), script="#!/bin/sh\n"))
    assert s.File("/run/jobs/script", "#!/bin/sh\n", 0o555) in built.stages.container
    last = built.stages.drop[-1]
    assert isinstance(last, s.Execute)
    assert last.argv == ("init", "--", "/run/jobs/script")


def test_an_exec_gives_up_exactly_what_the_job_gave_up() -> None:
    asked = s.exec_orders_from_json(exec_request(inputs(), ("id",), tty=True, freezers=("/f",)))
    own = plan(inputs()).stages.drop
    assert kinds(asked.drop) == kinds(own)
    assert [step for step in asked.drop if isinstance(step, s.BecomeUser)] == [
        step for step in own if isinstance(step, s.BecomeUser)
    ]
    assert (asked.tty, asked.freezers, asked.join, asked.run_procs) == (True, ("/f",), ("/m",), ("/r",))


def test_a_spread_jobs_pages_go_round_the_nodes_whoever_touches_them_first() -> None:
    policies = [s.Interleave((0, 1))]
    spread = inputs(numa="spread", nodes=(0, 1))
    assert [step for step in plan(spread).stages.drop if isinstance(step, s.Interleave)] == policies
    asked = s.exec_orders_from_json(exec_request(spread, ("id",), tty=False))
    assert [step for step in asked.drop if isinstance(step, s.Interleave)] == policies
    for other in ("local", "any", (0, 1)):
        assert s.Interleave not in kinds(plan(inputs(numa=other, nodes=(0, 1))).stages.drop)


def test_no_mask_of_its_own_beside_the_cpuset() -> None:
    with_cpuset = replace(HYBRID, controllers={"cpuset": ControllerMount("cpuset", 1, "/sys/fs/cgroup/cpuset")})
    assert s.Affinity(()) in plan(inputs(caps=with_cpuset, cpus=(2, 3))).stages.drop
    assert s.Affinity((2, 3)) in plan(inputs(caps=replace(HYBRID, controllers={}), cpus=(2, 3))).stages.drop
