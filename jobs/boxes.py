"""Rectangles in rectangles, laid out left to right and wrapped, as SVG text. Pure; knows nothing of machines.

Sizes are pixels at the natural size of the picture. Text is estimated, not measured: `GLYPH` of its size a character.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

GLYPH = 0.62  # width of a character over the font size: DejaVu Sans's widest digits and small letters
GAP = 8.0


@dataclass(frozen=True, slots=True)
class Box:
    """`body`: SVG elements relative to the box's own corner."""

    width: float
    height: float
    body: tuple[str, ...] = ()


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """`stroke_width=2` → `stroke-width="2"`. `content` is SVG already."""
    given = "".join(
        f" {key.replace('_', '-')}={quoteattr(f'{value:g}' if isinstance(value, float) else str(value))}"
        for key, value in attributes.items()
    )
    return f"<{name}{given}>{content}</{name}>" if content else f"<{name}{given}/>"


def text(content: str, x: float, y: float, size: float, **attributes: object) -> str:
    return element("text", escape(content), x=x, y=y, font_size=size, **attributes)


def text_width(content: str, size: float) -> float:
    return len(content) * size * GLYPH


def flow(boxes: Iterable[Box], most_width: float, gap: float = GAP) -> Box:
    """Left to right, wrapped at `most_width`; each row as high as its highest."""
    x = y = row = width = 0.0
    body: list[str] = []
    for box in boxes:
        if x and x + box.width > most_width:
            x, y, row = 0.0, y + row + gap, 0.0
        body.append(at(box, x, y))
        x, row = x + box.width + gap, max(row, box.height)
        width = max(width, x - gap)
    return Box(width, y + row, tuple(body))


def column(boxes: Sequence[Box], gap: float = GAP) -> Box:
    return flow(boxes, 0.0, gap)


def framed(title: str, inside: Box, *, size: float = 12.0, pad: float = 8.0, **frame: object) -> Box:
    """With a title above what is inside."""
    width = max(inside.width, text_width(title, size)) + 2 * pad
    top = pad + size + 6
    height = top + inside.height + pad
    return Box(
        width,
        height,
        (
            element("rect", width=width, height=height, rx=5.0, **frame),
            text(title, pad, pad + size - 1, size, font_weight="bold"),
            at(inside, pad, top),
        ),
    )


def at(box: Box, x: float, y: float) -> str:
    return element("g", "".join(box.body) or " ", transform=f"translate({x:g} {y:g})")
