"""A machine as one self-contained SVG picture: sockets ▸ memory nodes ▸ caches ▸ cores ▸ threads, with jobs. Pure.

What is free, given, frozen, idle, offline or isolated can be told without colour: by the words in the cells and by
hatching. Colours follow the job's place in the list, so neighbours differ.
"""

from __future__ import annotations

from jobs import cpuset
from jobs.boxes import Box, at, column, element, flow, framed, text, text_width
from jobs.machine import Block, Node, Part, Thread, View
from jobs.protocol import Placed
from jobs.render import printable
from jobs.topology_text import MEANS, generic_line, jobs_table, title_of, what_of
from jobs.units import render_size

WIDTH = 1400.0
CELL_WIDTH, CELL_HEIGHT = 48.0, 32.0
_IN_A_ROW = 8  # threads of one part
_BAR_HIGH = 22.0
# Twelve fills on which black text keeps a contrast of at least 7:1.
_FILLS = ("#8ecae6", "#ffb703", "#95d5b2", "#f4a6c0", "#cdb4ff", "#f9e07f", "#7fd6d0", "#ff9b85", "#b8c9ff", "#c5e478",
          "#e0b98a", "#d9d9d9")  # fmt: skip
_HALO: dict[str, object] = {"stroke": "#fff", "stroke_width": 2.5, "paint_order": "stroke"}
_WORDS = {"offline": "off", "isolated": "iso", "outside": "n/a"}
_PATTERNS = (
    '<pattern id="frozen" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="2.2" height="7" fill="#000" fill-opacity="0.38"/></pattern>'
    '<pattern id="kept" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">'
    '<rect width="1" height="5" fill="#777"/></pattern>'
)


def draw(view: View) -> str:
    parts = [_heading(view), *(_block(view, block) for block in view.blocks), _key(view)]
    whole = column(parts, 14.0)
    pad = 16.0
    width, height = whole.width + 2 * pad, whole.height + 2 * pad
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="DejaVu Sans, Verdana, Arial, sans-serif">',
            element("title", _safe(title_of(view))),
            f"<defs>{_PATTERNS}</defs>",
            element("rect", width="100%", height="100%", fill="#fff"),
            at(whole, pad, pad),
            "</svg>\n",
        )
    )


def _safe(content: str) -> str:
    return text(content, 0, 0, 1).partition(">")[2].removesuffix("</text>")


def _heading(view: View) -> Box:
    size = 18.0
    title = title_of(view)
    return Box(text_width(title, size), size + 4, (text(title, 0, size, size, font_weight="bold"),))


def _block(view: View, block: Block) -> Box:
    nodes = [_node(view, node, (WIDTH - 60) if len(block.nodes) == 1 else (WIDTH - 80) / 2) for node in block.nodes]
    if not block.sockets:
        title = "no socket"
    else:
        title = f"socket{'s' if len(block.sockets) > 1 else ''} {cpuset.render(block.sockets)}"
    return framed(title, flow(nodes, WIDTH - 20), size=14.0, fill="#f3f3f3", stroke="#555", stroke_width=1.5)


def _node(view: View, node: Node, most_width: float) -> Box:
    parts = flow([_part(view, part) for part in node.parts], most_width)
    inside = [parts] if node.parts else []
    if node.id >= 0:
        inside.insert(0, _memory(view, node, max(parts.width, 300.0)))
    title = f"memory node {node.id}" if node.id >= 0 else "of no known memory node"
    return framed(title, column(inside), size=12.0, fill="#fff", stroke="#777")


# ── CPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _part(view: View, part: Part) -> Box:
    threads = max((len(core) for core in part.cores), default=1)
    wide = max(1, _IN_A_ROW // threads) * (threads * CELL_WIDTH + 10)
    cores = flow([_core(view, core) for core in part.cores], wide, 4.0)
    return framed(what_of(part), cores, size=11.0, pad=6.0, fill="#fbfbf4", stroke="#999")


def _core(view: View, core: tuple[Thread, ...]) -> Box:
    cells = flow([_thread(view, thread) for thread in core], 1e9, 0.0)
    width, height = cells.width + 4, cells.height + 4
    return Box(width, height, (
        element("rect", width=width, height=height, rx=3.0, fill="#fff", stroke="#333", stroke_width=1.2),
        at(cells, 2, 2),
    ))  # fmt: skip


def _thread(view: View, thread: Thread) -> Box:
    holders = [view.placed[number] for number in thread.holders]
    number = thread.holders[0] if thread.holders else -1
    look: dict[str, object] = {"fill": "#fff", "stroke": "#bbb"}
    if thread.use in ("given", "shared", "idle"):
        look |= {"fill": fill_of(number)}
    if thread.use == "idle":
        look |= {"fill_opacity": 0.3, "stroke": "#333", "stroke_dasharray": "3 2"}
    if thread.use == "isolated":
        look |= {"stroke": "#000", "stroke_dasharray": "1 3", "stroke_width": 2.0}
    if thread.use in ("offline", "outside"):
        look |= {"fill": "#ddd"}
    body = [element("rect", width=CELL_WIDTH, height=CELL_HEIGHT, **look)]
    if thread.use == "offline":
        body += [
            element(
                "path",
                d=f"M2 2 L{CELL_WIDTH - 2:g} {CELL_HEIGHT - 2:g} M2 {CELL_HEIGHT - 2:g} L{CELL_WIDTH - 2:g} 2",
                stroke="#888",
            )
        ]
    if holders and all(job.state == "frozen" for job in holders) and thread.use != "idle":
        body.append(element("rect", width=CELL_WIDTH, height=CELL_HEIGHT, fill="url(#frozen)"))
    label = _label(thread, holders)
    body.append(text(str(thread.cpu), 3, 10, 9.0, fill="#222", **_HALO))
    if label:
        body.append(_outlined(label, CELL_WIDTH / 2, 25, _fitting(label)))
    body.append(element("title", _safe(f"CPU {thread.cpu}: {_says(thread, holders)}")))
    return Box(CELL_WIDTH, CELL_HEIGHT, ("".join(("<g>", *body, "</g>")),))


def _label(thread: Thread, holders: list[Placed]) -> str:
    if thread.use == "idle":
        return f"({_id(holders[0])})"
    if len(holders) > 1:
        return f"{len(holders)} jobs"
    return _id(holders[0]) if holders else _WORDS.get(thread.use, "")


def _id(job: Placed) -> str:
    return str(job.job) if job.job else "other"


def _outlined(label: str, x: float, y: float, size: float) -> str:
    """Readable on every fill and on hatching."""
    return text(label, x, y, size, text_anchor="middle", font_weight="bold", **_HALO)


def _fitting(label: str) -> float:
    """Font size at which the label fits into a cell."""
    return min(12.0, (CELL_WIDTH - 4) / (len(label) * 0.68))


def _says(thread: Thread, holders: list[Placed]) -> str:
    names = ", ".join(f"job {job.job} {printable(job.name)} ({job.state})" if job.job else "somebody else's job"
                      for job in holders)  # fmt: skip
    if thread.use == "idle":
        return f"kept idle for {names}"
    return names or MEANS[thread.use]


def fill_of(number: int) -> str:
    return _FILLS[number % len(_FILLS)]


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _memory(view: View, node: Node, width: float) -> Box:
    """A bar with a piece for each job, what is kept for the host and huge pages hatched at its end; a line below."""
    per_byte = width / max(1, node.memory_bytes)
    body = [element("rect", width=width, height=_BAR_HIGH, fill="#fff", stroke="#333")]
    x = 0.0
    for number, size in node.held:
        body += _piece(view.placed[number], number, x, size * per_byte)
        x += size * per_byte
    says = render_size(node.memory_bytes)
    if node.for_jobs_bytes >= 0:
        kept = max(0, node.memory_bytes - node.for_jobs_bytes) * per_byte
        body.append(element("rect", x=width - kept, width=kept, height=_BAR_HIGH, fill="url(#kept)", stroke="#333"))
        free = max(0, node.for_jobs_bytes - node.given_bytes)
        kept_size = render_size(max(0, node.memory_bytes - node.for_jobs_bytes))
        says += f": {render_size(node.given_bytes)} given, {render_size(free)} free, {kept_size} kept for the host"
    for size, total, free in node.hugepages:
        says += f"; pages of {render_size(size)}: {total}, {free} free"
    body.append(text(says, 0, _BAR_HIGH + 14, 11.0))
    return Box(max(width, text_width(says, 11.0)), _BAR_HIGH + 18, tuple(body))


def _piece(job: Placed, number: int, x: float, width: float) -> list[str]:
    found = [element("rect", x=x, width=width, height=_BAR_HIGH, fill=fill_of(number), stroke="#333")]
    if job.state == "frozen":
        found.append(element("rect", x=x, width=width, height=_BAR_HIGH, fill="url(#frozen)"))
    if text_width(_id(job), 11.0) + 4 <= width:
        found.append(_outlined(_id(job), x + width / 2, 15, 11.0))  # fmt: skip
    return found


# ── what it all means ───────────────────────────────────────────────────────────────────────────────────────────────


def _key(view: View) -> Box:
    lines = [_key_line(number, job, says) for number, (job, says) in enumerate(jobs_table(view))]
    lines += [_row(Box(CELL_WIDTH, CELL_HEIGHT, ()), generic_line(item)) for item in view.generic]
    uses = {thread.use: thread for node in view.nodes for part in node.parts for core in part.cores for thread in core}
    for use in ("free", "idle", "offline", "isolated", "outside"):
        if use in uses:
            lines.append(_row(_thread(view, uses[use]), MEANS[use]))
    if any(job.state == "frozen" for job in view.placed):
        hatched = element("rect", width=CELL_WIDTH, height=CELL_HEIGHT, fill="url(#frozen)", stroke="#333")
        lines.append(_row(Box(CELL_WIDTH, CELL_HEIGHT, (hatched,)), "hatched: frozen; its memory is what is resident"))
    return column(lines, 5.0)


def _key_line(number: int, job: Placed, says: str) -> Box:
    thread = Thread(0, "given", (number,))
    body = [element("rect", width=CELL_WIDTH, height=CELL_HEIGHT, fill=fill_of(number), stroke="#333")]
    if job.state == "frozen":
        body.append(element("rect", width=CELL_WIDTH, height=CELL_HEIGHT, fill="url(#frozen)"))
    label = _label(thread, [job])
    body.append(_outlined(label, CELL_WIDTH / 2, 21, _fitting(label)))
    return _row(Box(CELL_WIDTH, CELL_HEIGHT, tuple(body)), says)


def _row(sample: Box, says: str) -> Box:
    words = Box(text_width(says, 12.0), CELL_HEIGHT, (text(says, 0, 20, 12.0),))
    return flow([sample, words], 1e9, 10.0)
