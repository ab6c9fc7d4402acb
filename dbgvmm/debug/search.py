"""Looking for bytes in guest memory, linear or physical, in pieces, so that a long search can be shown and stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from dbgvmm.cpu.bits import MASK64
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.hardware.memory import PhysicalMemory
from dbgvmm.mmu.linear import GuestMemory, NotMapped

_PIECE: Final = 1 << 20
LARGEST_LINEAR: Final = 1 << 36
"""Bytes of linear addresses that one search goes through at most: holes have to be looked at page by page."""


def search(pieces: Iterator[tuple[int, bytes]], pattern: bytes) -> Iterator[int]:
    """Addresses at which `pattern` begins, overlapping ones too, lowest first. `pieces` are (address, bytes) in order; where
    one does not follow on the last, nothing is found across the gap. Raises ValueError for an empty pattern."""
    if not pattern:
        raise ValueError("there is nothing to search for")
    tail, end = b"", -1
    for address, data in pieces:
        if address != end:
            tail = b""
        joined = tail + data
        start = address - len(tail)
        at = joined.find(pattern)
        while at >= 0:
            yield start + at
            at = joined.find(pattern, at + 1)
        kept = min(len(pattern) - 1, len(joined))
        tail, end = joined[len(joined) - kept :], address + len(data)


def linear_pieces(
    memory: GuestMemory, start: int, length: int, between: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, bytes]]:
    """What is mapped to RAM of a linear range; `between` is called between two pieces, and may raise."""
    at, end = start, min(start + length, MASK64 + 1)
    while at < end:
        between()
        try:
            data = memory.peek_some(at, min(_PIECE, end - at))
        except NotMapped:
            at = (at | PAGE_SIZE - 1) + 1
            continue
        yield at, data
        at += len(data)


def physical_pieces(
    ram: PhysicalMemory, start: int, length: int, between: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, bytes]]:
    """A range of RAM; `between` is called between two pieces, and may raise. Raises IndexError outside RAM."""
    at, end = start, start + length
    while at < end:
        between()
        data = ram.read(at, min(_PIECE, end - at))
        yield at, data
        at += len(data)
