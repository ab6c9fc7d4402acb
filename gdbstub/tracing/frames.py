"""`TraceFrame`: what one hit or one step of a tracepoint has collected, and its form in gdb's trace files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Final

from gdbstub.tracing.actions import register_numbers

_HEAD: Final = struct.Struct("<HI")
_MEMORY_HEAD: Final = struct.Struct("<cQH")
_VARIABLE: Final = struct.Struct("<ciQ")
_LONGEST_BLOCK: Final = 0xFFFF
Memory = tuple[int, bytes]


@dataclass(frozen=True)
class RegisterLayout:
    """Bytes of each register by number, of which the first `block` ones make up gdb's `g` packet; `pc` is the number of the
    program counter."""

    sizes: tuple[int, ...]
    block: int
    pc: int

    def encode_pc(self, address: int) -> bytes:
        """An address as the program counter has it, little-endian as all registers."""
        return address.to_bytes(self.sizes[self.pc], "little")

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each begins if all lie one behind the other."""
        return (0, *accumulate(self.sizes))[:-1]

    @cached_property
    def block_size(self) -> int:
        """Bytes of the block."""
        return sum(self.sizes[: self.block])

    @cached_property
    def whole(self) -> RegisterLayout:
        """The same with all registers in the block."""
        return replace(self, block=len(self.sizes))

    def size_of(self, mask: int) -> int:
        """Bytes of the registers in `mask`."""
        return sum(self.sizes[number] for number in register_numbers(mask))


@dataclass(frozen=True, slots=True)
class TraceFrame:
    """What was collected.

    tracepoint: its number. address: of the instruction that is about to be executed. count: the target's clock, in retired
    instructions. registers: the bytes of those in `mask`, in the order of their numbers. memory: (address, bytes).
    variables: (number, value).
    """

    tracepoint: int
    address: int
    count: int
    mask: int = 0
    registers: bytes = b""
    memory: tuple[Memory, ...] = ()
    variables: tuple[tuple[int, int], ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it takes of a buffer: as in a file, but with just the registers that are in it."""
        size = _HEAD.size + (1 + len(self.registers) if self.mask else 0) + _VARIABLE.size * len(self.variables)
        for _, data in self.memory:
            size += len(data) + _MEMORY_HEAD.size * -(-len(data) // _LONGEST_BLOCK)
        return size

    # -- answers

    def register(self, layout: RegisterLayout, number: int) -> bytes | None:
        """The bytes of a register; None if it was not collected. The program counter is known of every frame."""
        if number == layout.pc:
            return layout.encode_pc(self.address)
        if not self.mask >> number & 1:
            return None
        start = layout.size_of(self.mask & ((1 << number) - 1))
        return self.registers[start : start + layout.sizes[number]]

    def read(self, address: int, length: int) -> bytes:
        """Memory as far as it was collected in one piece from `address` on, `length` bytes at most."""
        data = b""
        while len(data) < length:
            at = address + len(data)
            parts = (block[at - start :] for start, block in self.memory if start <= at < start + len(block))
            part = max(parts, key=len, default=b"")
            if not part:
                break
            data += part
        return data[:length]

    def variable(self, number: int) -> int | None:
        """The value of a trace state variable; None if it was not collected."""
        return dict(self.variables).get(number)

    # -- gdb's trace file format (GDB manual, "Trace File Format")

    def encode(self, layout: RegisterLayout) -> bytes:
        """The frame with its head. A file has blocks of registers of one size; those in it that were not collected are 0,
        since the format has no other word for it."""
        body = b"".join(self._blocks(layout))
        return _HEAD.pack(self.tracepoint & 0xFFFF, len(body)) + body

    def _blocks(self, layout: RegisterLayout) -> Iterator[bytes]:
        if self.mask:
            yield b"R" + self._register_block(layout)
        for address, data in self.memory:
            for start in range(0, len(data), _LONGEST_BLOCK):
                part = data[start : start + _LONGEST_BLOCK]
                yield _MEMORY_HEAD.pack(b"M", address + start, len(part)) + part
        for number, value in self.variables:
            yield _VARIABLE.pack(b"V", number, value)

    def _register_block(self, layout: RegisterLayout) -> bytes:
        block = bytearray(layout.block_size)
        at = 0
        for number in register_numbers(self.mask):
            size = layout.sizes[number]
            if number < layout.block:
                start = layout.offsets[number]
                block[start : start + size] = self.registers[at : at + size]
            at += size
        if layout.pc < layout.block:
            start = layout.offsets[layout.pc]
            block[start : start + layout.sizes[layout.pc]] = layout.encode_pc(self.address)
        return bytes(block)

    def encoded_size(self, layout: RegisterLayout) -> int:
        """Bytes of `encode`."""
        return self.size + (layout.block_size - len(self.registers) if self.mask else 0)
