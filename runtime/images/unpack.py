"""The unpacker: a program of its own, started by the launcher's `helper` as the host's root, jailed before it reads.

    python -I -X utf8 -c BOOT ROOT    stdin: request (JSON)    3 source · 4 tree · 5 user namespace · 6 report (memfd)

The report says what was made, or why the source is refused. Exit 0 in both cases; anything else is a crash of ours.
The tree has one folder per layer: `0` is the bottom.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from runtime import syscalls
from runtime.images import jail
from runtime.images.archive import Layer, read_source
from runtime.images.limits import Budget, Limits, Refused
from runtime.images.streams import Digest, decompressed
from runtime.images.tarstream import TarReader
from runtime.images.tree import Notes, Tree

SOURCE, TREE, USERNS, REPORT = 3, 4, 5, 6
BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from runtime.images.unpack import main; main()"


def main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    limits = Limits(**request["limits"])
    confined = jail.enter(TREE, USERNS, limits, keep=(SOURCE, REPORT))
    report: dict[str, Any] = {"jail": confined}
    try:
        report |= unpack(request, limits)
    except Refused as refusal:
        report |= {"refused": refusal.message, "member": refusal.member, "hint": refusal.hint}
    except MemoryError:
        report |= {"refused": f"needs more than {limits.memory_bytes} bytes of memory", "member": "", "hint": ""}
    data = json.dumps(report, ensure_ascii=True).encode()
    while data:
        data = data[os.write(REPORT, data) :]


def unpack(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """`known` are diff ids that the store has: such layers are read and hashed, but not written again."""
    recipe = read_source(SOURCE, request["kind"], limits, request["machine"])
    budget, notes = Budget(limits), Notes(limits.notes)
    known = frozenset(request["known"])
    layers = []
    for number, layer in enumerate(recipe.layers):
        layers.append(_layer(number, layer, budget, notes, known))
        known |= {layers[-1]["diff_id"]}  # some builders repeat a layer
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    syscalls.syncfs(root)  # the daemon renames the layers into place: by then their bytes are on the disk
    config = asdict(recipe.config)
    del config["diff_ids"]
    return {
        "kind": recipe.kind,
        "layers": layers,
        "config": config,
        "bytes": budget.bytes_out,
        "files": budget.inodes,
        "left_out": notes.counts,
        "names": notes.names,
    }


def _layer(number: int, layer: Layer, budget: Budget, notes: Notes, known: frozenset[str]) -> dict[str, Any]:
    packed = Digest(layer.content)
    plain = Digest(decompressed(packed, layer.form, budget))
    made = layer.diff_id not in known
    try:
        opaque = _extract(number, plain, budget, notes) if made else []
        diff_id = plain.drain()
    except Refused as refusal:
        raise Refused(refusal.message, member=_join(layer.name, refusal.member), hint=refusal.hint) from refusal
    if layer.digest and packed.drain() != layer.digest:
        raise Refused("its digest is not the promised one", member=layer.name)
    if layer.diff_id and diff_id != layer.diff_id:
        raise Refused(f"unpacks to {diff_id}, where the config promises {layer.diff_id}", member=layer.name)
    return {"diff_id": diff_id, "made": made, "opaque": opaque}


def _extract(number: int, plain: Digest, budget: Budget, notes: Notes) -> list[str]:
    os.mkdir(f"/{number}", 0o755)
    root = os.open(f"/{number}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        reader = TarReader(plain, budget.limits)
        tree = Tree(root, budget, notes)
        for member in reader.members():
            tree.add(member, reader.read_data)
        tree.finish()
        return list(tree.opaque)
    finally:
        os.close(root)


def _join(layer: str, member: str) -> str:
    return ": ".join(part for part in (layer, member) if part)
