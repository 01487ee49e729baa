"""What each single key of a spec may hold: given TOML value → value of jobs.spec, or Refused. Daemon only.

The kinds they are made of are in specfile_values; which key uses which is in specfile_model.
"""

from __future__ import annotations

import math
import re
import shlex
import signal
from decimal import Decimal

from jobs.array import Array, parse_array
from jobs.spec import SPEC_VERSION, Publish, Wanted
from jobs.specfile_values import (
    LONGEST_STRING_BYTES,
    Refused,
    choice,
    closest,
    element,
    plain_path,
    show,
    size,
    text,
    type_name,
    unique,
    whole,
)  # fmt: skip

LARGEST_UID = 4294967294  # 2^32 - 1 means "no uid" to the kernel
MOST_CPUS = 8192  # CONFIG_NR_CPUS's upper end on x86-64
MOST_NUMA_NODES = 1024  # 1 << CONFIG_NODES_SHIFT's upper end
MOST_WAITED_FOR = 1000  # of one kind of dependency
GENERIC_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
MOST_GENERIC = 4096
MOST_VARIANTS = 8
MOST_PIDS = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h
LARGEST_SCRIPT_BYTES = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")  # names of users too
IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SIGNALS = tuple(sorted({name.name[3:] for name in signal.Signals} - {"STOP"}))


def version(given: object) -> int:
    """Of the format: a spec of a later version is not read as if it were an old one."""
    if given != SPEC_VERSION or isinstance(given, bool | float):
        raise Refused(f"{show(given)} is not a version that this program reads; possible: {SPEC_VERSION}")
    return SPEC_VERSION


def name(given: object) -> str:
    found = text(given)
    if not NAME.fullmatch(found):
        raise Refused(
            f"{show(found)} is not a name; needs 1 to 63 of A–Z a–z 0–9 _ . - and begins with a letter or digit",
            hint=closest(found, ()),
        )
    return found


def account(given: object) -> str:
    found = text(given)
    if not ACCOUNT.fullmatch(found):
        raise Refused(
            f"{show(found)} is not an account; needs 1 to 64 of A–Z a–z 0–9 _ . @ + - and begins with none of the last "
            "four",
            hint=closest(found, ()),
        )
    return found


def command(given: object) -> tuple[str, ...]:
    """An argument vector; nothing here is a shell."""
    if isinstance(given, str):
        raise Refused("is a string; needs a list of strings", hint=f"write: command = {_split(given)}")
    if not isinstance(given, list):
        raise Refused(f"{show(given)} is {type_name(given)}; needs a list of strings")
    if not given:
        raise Refused("is empty; needs at least the program")
    arguments = tuple(element(position, text, item) for position, item in enumerate(given))
    if not arguments[0]:
        raise Refused("'' is not a program", below=(0,))
    return arguments


def _split(line: str) -> str:
    try:
        return "[" + ", ".join(f'"{word}"' for word in shlex.split(line)) + "]"
    except ValueError:
        return '["program", "argument"]'


def script(given: object) -> str:
    """The text of a program; without a first line `#!…` it is one for /bin/sh."""
    found = text(given, longest=LARGEST_SCRIPT_BYTES)
    if not found.strip():
        raise Refused("is empty; needs the text of a program")
    return found if found.startswith("#!") else f"#!/bin/sh\n{found}"


def run_as(given: object) -> str:
    """ "me", "root", or exactly one uid: no sign, no prefix, no wrap-around (docs/design/attacks.md T5)."""
    wanted = f'"me", "root", or a uid from 0 to {LARGEST_UID}'
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}")
    found = str(given)
    if found in ("me", "root"):
        return found
    if not re.fullmatch(r"0|[1-9][0-9]{0,9}", found) or int(found) > LARGEST_UID:
        raise Refused(f"{show(given)} is not possible; needs {wanted}", hint=closest(found, ("me", "root")))
    return "root" if found == "0" else found


def stop_signal(given: object) -> str:
    if isinstance(given, int) and given in set(signal.Signals):
        raise Refused(
            f"{show(given)} is {type_name(given)}; needs a name", hint=f'write "{signal.Signals(given).name[3:]}"'
        )
    found = text(given, wanted='a signal\'s name, for example "TERM"')
    short = found.removeprefix("SIG")
    if short == "STOP":
        raise Refused("'STOP' does not end a job; possible: TERM, INT, HUP, …", hint="use `jobs pause` to freeze it")
    if short not in SIGNALS:
        raise Refused(
            f"{show(found)} is not a signal; possible: {', '.join(SIGNALS)}", hint=closest(short.upper(), SIGNALS)
        )
    return short


def env_name(given: object) -> str:
    found = text(given)
    if not ENV_NAME.fullmatch(found):
        raise Refused(
            "is not a variable's name; needs letters, digits and _, and does not begin with a digit",
            hint=closest(found, ()),
        )
    return found


def env_value(given: object) -> str:
    """Never repeated in an error: it may be a secret (docs/design/attacks.md T45)."""
    if not isinstance(given, str):
        raise Refused(f"is {type_name(given)}; needs a string", hint="put the value in quotes")
    return text(given, longest=LONGEST_STRING_BYTES - 1024)  # room for NAME=


def image_source(given: object) -> str:
    found = text(given, longest=4096)
    if found.startswith("dir:"):
        if not found.startswith("dir:/"):
            raise Refused(f"{show(found)} is not absolute", hint='write "dir:/path/of/a/root"')
        return "dir:" + plain_path(found[4:])
    if not IMAGE_NAME.fullmatch(found):
        raise Refused(
            f'{show(found)} is not an image; possible: "host", "dir:/path", or a name from `jobs image list`',
            hint=f'write "dir:{found}"' if found.startswith("/") else closest(found, ()),
        )
    return found


def cpus(given: object) -> float:
    """A whole number is pinned and exclusive; hundredths are shares."""
    wanted = f"a number above 0, at most {MOST_CPUS}, with at most two decimals"
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}")
    if not math.isfinite(given) or not 0 < given <= MOST_CPUS or Decimal(repr(given)) * 100 % 1:
        raise Refused(f"{show(given)} is not possible; needs {wanted}")
    return float(given)


def hugepages(given: object) -> tuple[tuple[int, int], ...]:
    """`{"2MiB" = 64}` → ((2097152, 64),)."""
    if not isinstance(given, dict):
        raise Refused(f'{show(given)} is {type_name(given)}; needs a table, for example {{ "2MiB" = 64 }}')
    pages: dict[int, int] = {}
    for key, count in given.items():
        page = element(key, size(1, ""), key)
        if page & (page - 1) or page < 64 << 10:
            raise Refused(
                "is not a size of huge pages; possible are powers of two, for example 2MiB, 1GiB", below=(key,)
            )
        if page in pages:
            raise Refused("the same page size twice", below=(key,))
        pages[page] = element(key, whole(0, 1 << 30), count)
    return tuple(sorted(pages.items()))


def device(given: object) -> str:
    found = plain_path(text(given, longest=4096))
    if not found.startswith("/dev/"):
        raise Refused(f"{show(given)} is not a device; needs a path below /dev")
    return found


def generic(given: object) -> tuple[tuple[str, int], ...]:
    """`{ gpu = 1 }`: names that the host's operator gave, and how many of each. 0 asks for none."""
    if not isinstance(given, dict):
        raise Refused(f"{show(given)} is {type_name(given)}; needs a table", hint="write: generic = { gpu = 1 }")
    found = []
    for name, count in given.items():
        if not GENERIC_NAME.fullmatch(name):
            raise Refused("is not a resource's name; needs a to z, 0 to 9 and _, first a letter", below=(name,))
        found.append((name, element(name, whole(0, MOST_GENERIC), count)))
    return tuple(sorted(found))


def numa(given: object) -> str | tuple[int, ...]:
    if not isinstance(given, list):
        if isinstance(given, int):
            raise Refused(f"{show(given)} is {type_name(given)}; needs a list", hint=f"write: numa = [{show(given)}]")
        try:
            return choice("local", "spread", "any")(given)
        except Refused as error:
            raise Refused(f"{error.message}, or a list of nodes such as [0, 1]", hint=error.hint) from None
    if not given:
        raise Refused("is empty; needs at least one node, or one of: local, spread, any")
    nodes = [element(position, whole(0, MOST_NUMA_NODES - 1), item) for position, item in enumerate(given)]
    unique(nodes, "node")
    return tuple(sorted(nodes))


def publish(given: object) -> Publish:
    """`"8080:80/tcp"`: port of the host, port of the job."""
    wanted = 'needs HOST:JOB or HOST:JOB/PROTOCOL, for example "8080:80/tcp"'
    if not isinstance(given, str):
        raise Refused(f"{show(given)} is {type_name(given)}; {wanted}")
    parts = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6})(?:/([a-z]+))?", given)
    if not parts:
        raise Refused(f"{show(given)} is not possible; {wanted}", hint=closest(given, ()))
    host_port, job_port = int(parts[1]), int(parts[2])
    if not (1 <= host_port <= 65535 and 1 <= job_port <= 65535):
        raise Refused(f"{show(given)} is not possible; ports are 1 to 65535")
    if parts[3] not in (None, "tcp", "udp"):
        raise Refused(f"{show(given)} is not possible; protocols are tcp, udp", hint=closest(parts[3], ("tcp", "udp")))
    return Publish(host_port, job_port, "udp" if parts[3] == "udp" else "tcp")


def mount_source(given: object) -> str:
    """Still relative where the spec says so; `~/` is the submitter's home."""
    found = text(given, longest=4096)
    if not found:
        raise Refused("is empty; needs a path on the host")
    return found


def mount_target(given: object) -> str:
    found = plain_path(text(given, longest=4096))
    for taken in ("/", "/proc", "/sys", "/dev"):
        if found == taken or (taken != "/" and found.startswith(taken + "/")):
            raise Refused(f"{show(given)} is not possible; {taken} is the container's own", hint="for example /data")
    return found


def workdir(given: object) -> str:
    """/proc is refused: /proc/self/fd/N would be a folder of whoever sets the job up (docs/design/attacks.md T3)."""
    found = plain_path(text(given, longest=4096))
    if found == "/proc" or found.startswith("/proc/"):
        raise Refused(f"{show(given)} is not possible; needs a folder of the image or of a mount, not of /proc")
    return found


def array(given: object) -> Array:
    """`"0-999:2%50"`: indexes, and how many tasks live at once."""
    found = text(given, longest=4096, wanted='indexes, for example "0-99" or "0-99%10"')
    try:
        return parse_array(found)
    except ValueError as error:
        raise Refused(str(error), hint=closest(found, ())) from None


def waited_for(given: object) -> Wanted:
    """Names and ids of jobs; a single one may stand without brackets."""
    listed = given if isinstance(given, list) else [given]
    found = tuple(
        element(position, _job, item) if listed is given else _job(item) for position, item in enumerate(listed)
    )
    if len(found) > MOST_WAITED_FOR:
        raise Refused(f"{len(found)} jobs are too many to wait for; at most {MOST_WAITED_FOR}")
    for position, item in enumerate(found):
        if item in found[:position]:
            raise Refused(f"the same job twice: {show(item)}", below=(position,))
    return found


def _job(given: object) -> int | str:
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise Refused(f"{show(given)} is {type_name(given)}; needs a job's name, or its id as a number")
    if isinstance(given, str):
        return name(given)
    if not 1 <= given < 10**15:
        raise Refused(f"{show(given)} is not the id of a job")
    return given
