"""Instructions of BPF programs as bytes. Pure. Source: struct bpf_insn and the opcodes of linux/bpf.h, bpf_common.h."""

from __future__ import annotations

import struct

LOAD = 0x61  # BPF_LDX | BPF_MEM | BPF_W: to = *(u32 *)(source + offset)
STORE = 0x63  # BPF_STX | BPF_MEM | BPF_W: *(u32 *)(to + offset) = source
MOVE = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
COPY = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
AND = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
SHIFT = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
UNLESS = 0x55  # BPF_JMP | BPF_JNE | BPF_K: `offset` instructions further when they differ
EXIT = 0x95

RESULT, CONTEXT = 0, 1  # registers: what the program answers, and what it is given


def op(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One struct bpf_insn; `value` is a signed or an unsigned 32-bit number."""
    return struct.pack("=BBhI", code, to | source << 4, offset, value & 0xFFFFFFFF)
