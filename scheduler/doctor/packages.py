"""How a thing is installed, by the family of the distribution. Pure."""

from __future__ import annotations

_COMMANDS = {
    "debian": "apt-get install {}", "fedora": "dnf install {}", "suse": "zypper install {}", "arch": "pacman -S {}",
    "alpine": "apk add {}",
}  # fmt: skip
# Package by family, where it is not the name it is asked for by; "" where there is none.
_NAMES = {
    "catatonit": {"alpine": "", "arch": "catatonit"},
    "python3-nftables": {"arch": "nftables", "alpine": "py3-nftables"},
    "libseccomp2": {"fedora": "libseccomp", "arch": "libseccomp", "alpine": "libseccomp"},
    "e2fsprogs": {},
    "tzdata": {"suse": "timezone"},
}


def install(family: str, package: str) -> str:
    """A command; Debian's and Fedora's where the distribution is not known."""
    if family not in _COMMANDS:
        return f"{_one('debian', package)} (Debian, Ubuntu), {_one('fedora', package)} (Fedora, RHEL)"
    return _one(family, package)


def _one(family: str, package: str) -> str:
    name = _NAMES[package].get(family, package)
    return _COMMANDS[family].format(name) if name else f"no package of this distribution; {package} from its source"
