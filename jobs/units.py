"""The only place where sizes, durations and rates are parsed and written. Pure.

Sizes are bytes (int), durations seconds (float), rates bytes or bits a second (int).
"""

from __future__ import annotations

import re
from decimal import Decimal

_SIZE = {
    "": 1, "B": 1,
    "K": 1 << 10, "KIB": 1 << 10, "KB": 10**3,
    "M": 1 << 20, "MIB": 1 << 20, "MB": 10**6,
    "G": 1 << 30, "GIB": 1 << 30, "GB": 10**9,
    "T": 1 << 40, "TIB": 1 << 40, "TB": 10**12,
}  # fmt: skip
_TIME: dict[str, Decimal | int] = {
    "ms": Decimal("0.001"), "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800,
}  # fmt: skip
_BITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12}
_NUMBER = r"(\d{1,18}(?:\.\d{1,9})?)"
MOST_BYTES = 1 << 60
MOST_SECONDS = 10 * 366 * 86400


def parse_size(text: str | int) -> int:
    """`"4GiB"`, `"512M"`, `4096` → bytes. K, M, G, T alone are powers of 1024. Raises ValueError."""
    match = re.fullmatch(_NUMBER + r"\s*([A-Za-z]{0,3})", str(text).strip(), re.ASCII)
    factor = _SIZE.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"not a size: {text!r}; write for example \"4GiB\", \"512MiB\" or 4096")
    size = int(Decimal(match[1]) * factor)
    if size > MOST_BYTES:
        raise ValueError(f"too large a size: {text!r}; at most 1 EiB")
    return size


def parse_duration(text: str | int | float) -> float:
    """`"1h30m"`, `"90s"`, `90` → seconds. Raises ValueError."""
    given = str(text).strip()
    if re.fullmatch(_NUMBER, given, re.ASCII):
        seconds = Decimal(given)
    elif re.fullmatch(rf"(?:{_NUMBER}\s*(?:ms|min|[smhdw])\s*)+", given, re.ASCII):
        seconds = sum(
            (Decimal(number) * _TIME[unit] for number, unit in re.findall(_NUMBER + r"\s*(ms|min|[smhdw])", given)),
            Decimal(0),
        )
    else:
        raise ValueError(f"not a duration: {text!r}; write for example \"90s\", \"15m\", \"2h\" or \"1h30m\"")
    if seconds > MOST_SECONDS:
        raise ValueError(f"too long a duration: {text!r}; at most ten years")
    return float(seconds)


def parse_byte_rate(text: str | int) -> int:
    """`"100MiB/s"` → bytes a second. Raises ValueError."""
    given = str(text).strip()
    try:
        return parse_size(given.removesuffix("/s").strip())
    except ValueError:
        raise ValueError(f"not a rate: {text!r}; write for example \"100MiB/s\"") from None


def parse_bit_rate(text: str | int) -> int:
    """`"100mbit"` → bits a second, as tc(8) writes rates. Raises ValueError."""
    match = re.fullmatch(_NUMBER + r"\s*([A-Za-z]+)", str(text).strip(), re.ASCII)
    factor = _BITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"not a network rate: {text!r}; write for example \"100mbit\" or \"1gbit\"")
    rate = int(Decimal(match[1]) * factor)
    if not 1000 <= rate <= 10**13:
        raise ValueError(f"impossible network rate: {text!r}; from 1kbit to 10tbit")
    return rate


def render_size(size: float) -> str:
    """4294967296 → `"4.0GiB"`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{size:.0f}{unit}" if unit == "B" else f"{size:.1f}{unit}"
        size /= 1024
    raise AssertionError


def render_duration(seconds: float) -> str:
    """5400 → `"1h30m"`; under a minute with one decimal: `"3.2s"`; under a tenth of a second `"12.3ms"`."""
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])
