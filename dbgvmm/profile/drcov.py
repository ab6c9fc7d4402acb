"""Executed code as a drcov log, version 2: what Lighthouse, Lightkeeper, Cartographer and others colour a disassembly by.

Source: DynamoRIO, "drcov: Code Coverage Tool"; the module table as of version 2. The basic blocks are those that ran:
instructions one behind the other, up to a branch. They are by linear address: code of several address spaces at the same
one is there once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from iced_x86 import FlowControl

from dbgvmm.profile.counts import ExecutionCounts

_BLOCK: Final = struct.Struct("<IHH")
"""start: offset into the module; size in bytes; the module's number."""
_LONGEST: Final = 0xFFFF
_GAP: Final = 64 << 20
"""Code further apart than this is in two modules, if no file says where one ends."""
_MOST_MODULES: Final = 0x10000


@dataclass(frozen=True)
class Module:
    """A range of linear addresses, from `base` to before `end`, and what lies there: a file, or a name in brackets."""

    base: int
    end: int
    path: str
    entry: int = 0


@dataclass(frozen=True, order=True)
class Block:
    """A basic block that ran."""

    address: int
    size: int


def executed_blocks(counts: ExecutionCounts) -> list[Block]:
    """The basic blocks that ran, by address; none overlaps another but where code was overwritten."""
    items = sorted({(item.address, len(item.data), item) for item, times in counts.instructions.items() if times > 0})
    blocks: list[Block] = []
    start = end = -1
    for address, size, item in items:
        if address != end or end + size - start > _LONGEST:
            if end > start:
                blocks.append(Block(start, end - start))
            start = address
        end = address + size
        if item.decode().flow_control not in (FlowControl.NEXT, FlowControl.EXCEPTION):
            blocks.append(Block(start, end - start))
            start = end = -1
    if end > start:
        blocks.append(Block(start, end - start))
    return sorted(set(blocks))


def modules_of(blocks: list[Block], known: list[Module]) -> list[Module]:
    """The modules that blocks are in: those that are known, and one for each other stretch of addresses."""
    found = sorted((module for module in known if module.end > module.base), key=lambda module: module.base)
    others: list[Module] = []
    for block in blocks:
        end = block.address + block.size
        if any(module.base <= block.address and end <= module.end for module in found):
            continue
        last = others[-1] if others else None
        if last is not None and block.address < last.end + _GAP and end - last.base < 1 << 32:
            others[-1] = Module(last.base, max(end, last.end), last.path)
        else:
            base = block.address & ~0xFFF
            others.append(Module(base, end, f"[code at {base:#x}]"))
    return [*found, *others]


def write_drcov(out: BinaryIO, counts: ExecutionCounts, known: list[Module] | None = None) -> None:
    """Write a log. known: modules whose files are known (each of less than 4 GiB)."""
    blocks = executed_blocks(counts)
    modules = modules_of(blocks, known or [])[:_MOST_MODULES]
    packed = []
    for block in blocks:
        end = block.address + block.size
        for number, module in enumerate(modules):
            if module.base <= block.address and end <= module.end:
                packed.append(_BLOCK.pack(block.address - module.base, block.size, number))
                break
    head = [
        "DRCOV VERSION: 2", "DRCOV FLAVOR: drcov", f"Module Table: version 2, count {len(modules)}",
        "Columns: id, base, end, entry, path",
    ]  # fmt: skip
    for number, module in enumerate(modules):
        head.append(f"{number:3}, {module.base:#018x}, {module.end:#018x}, {module.entry:#018x}, {module.path}")
    head.append(f"BB Table: {len(packed)} bbs")
    out.write(("\n".join(head) + "\n").encode())
    out.write(b"".join(packed))


def kernel_module(path: Path | None) -> list[Module]:
    """The module of an ELF kernel, if its code's place can be read out of the file; else none."""
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            spans = [
                (segment["p_vaddr"], segment["p_vaddr"] + segment["p_memsz"])
                for segment in elf.iter_segments("PT_LOAD") if segment["p_flags"] & 1
            ]  # fmt: skip
            entry = elf["e_entry"]
    except (ELFError, ConstructError, OSError, LookupError, ValueError):
        return []  # no ELF file: its code is in a module without one
    return [Module(base, end, str(path), entry if base <= entry < end else 0) for base, end in spans if end - base < 1 << 32]


__all__ = ["Block", "Module", "executed_blocks", "kernel_module", "modules_of", "write_drcov"]
