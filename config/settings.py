"""Settings: defaults ← file ← environment (JOBS_…). Each field has its unit and its reason. Pure but for `load`.

Unknown keys are errors: a mistyped setting must not be silently ignored.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from config import generic as tables
from config.generic import GenericSetting


@dataclass(frozen=True, slots=True)
class Settings:
    state_dir: str = "/var/lib/jobs"  # journal, spool, images; 0700
    run_dir: str = "/run/jobs"  # sockets; 0711
    cgroup_root: str = "jobs"  # group below the root of each hierarchy
    operators_group: str = "jobs-operators"  # members steer every job; uid 0 always does
    node_id: str = ""  # "": the host name
    bridge: str = "jobs0"  # interface name, at most 15 bytes
    subnet: str = "10.213.0.0/16"  # addresses of jobs
    uplink: str = ""  # interface of the NAT; "": by the route
    nft_table: str = "jobs"  # one table per family
    mount_net_controllers: bool = True  # mount net_cls and net_prio privately where the kernel (5.15 or later) has them
    reserve_memory: str = "512MiB"  # kept for the host and never given to jobs
    use_isolated_cpus: bool = False  # give jobs the CPUs of isolcpus= too; threads do not spread over them
    slots: int = 4  # user + network namespace pairs made ahead
    uppers: int = 4  # writable filesystems of the default size made ahead
    freezer: str = "auto"  # "auto": v2 wherever it is mounted | "v1" | "v2"
    freeze_deadline_s: float = 5.0  # a freeze that takes longer is undone and reported
    log_limit: str = "1GiB"  # per stream; older output is dropped
    init: str = ""  # "": catatonit, else tini-static, from PATH
    id_first: int = 1879048192  # first host id of the leased blocks; after systemd-nspawn's (systemd UIDS-GIDS.md)
    id_blocks: int = 4000  # of 66,560 ids each; ends below systemd's foreign range 2147352576
    policy_file: str = "/etc/jobs/policy.toml"  # queues, shares, reservations; absent: one open queue, all alike
    max_jobs: int = 1000  # running or frozen at a time
    generic: tuple[GenericSetting, ...] = ()  # tables [generic.NAME]: GPUs, licences; docs/howto/generic.md

    @property
    def socket(self) -> str:
        return f"{self.run_dir}/jobsd.sock"

    @property
    def launcher_socket(self) -> str:
        return f"{self.run_dir}/launcher.sock"

    @property
    def exec_socket(self) -> str:
        return f"{self.run_dir}/exec.sock"


TABLES = ("generic",)  # only in the file: a variable holds no table


class BadSetting(ValueError):
    """A setting that does not exist or has the wrong type; names the source, the key and the value."""


def merge(source: str, base: Settings, given: Mapping[str, Any]) -> Settings:
    """`base` with the given keys replaced. Strings are converted (environment). Raises BadSetting."""
    kinds = {field.name: type(getattr(base, field.name)) for field in fields(Settings)}
    values = {name: getattr(base, name) for name in kinds}
    for key, value in given.items():
        if key not in kinds:
            raise BadSetting(f"{source}: no setting {key!r}; settings are: {', '.join(sorted(kinds))}")
        values[key] = _generic(source, value) if key == "generic" else _convert(source, key, value, kinds[key])
    return Settings(**values)


def _generic(source: str, value: Any) -> tuple[GenericSetting, ...]:
    try:
        return tables.read(value)
    except ValueError as error:
        raise BadSetting(f"{source}: {error}") from None


def _convert(source: str, key: str, value: Any, kind: type) -> Any:
    try:
        if kind is bool:
            return value if isinstance(value, bool) else {"true": True, "1": True, "false": False, "0": False}[value]
        if kind is str and not isinstance(value, str):
            raise TypeError
        return kind(value)
    except (KeyError, TypeError, ValueError):
        raise BadSetting(f"{source}: {key} = {value!r} is not a {kind.__name__}") from None


def load(path: str = "", environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads `path` (or $JOBS_CONFIG, or /etc/jobs/jobs.toml where it exists), then JOBS_<KEY> variables."""
    settings = Settings()
    chosen = path or environ.get("JOBS_CONFIG", "")
    if chosen or os.path.exists("/etc/jobs/jobs.toml"):
        import tomllib  # not on the path of every CLI command

        chosen = chosen or "/etc/jobs/jobs.toml"
        with open(chosen, "rb") as file:
            settings = merge(chosen, settings, tomllib.load(file))
    names = {f"JOBS_{field.name.upper()}": field.name for field in fields(Settings) if field.name not in TABLES}
    found = {names[key]: value for key, value in environ.items() if key in names}
    return merge("environment", settings, found)
