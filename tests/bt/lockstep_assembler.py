"""A small assembler for programs with branches: raw bytes, encoded instructions and labels, laid out in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import lockstep_layout as layout
from iced_x86 import Code, Encoder, Instruction, MemoryOperand, Register
from lockstep_state import Program

GPR64: Final = tuple(
    getattr(Register, name) for name in "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15".split()
)
Operand = int | str | MemoryOperand
"""An immediate or register number, a label's address, or a memory operand."""
_NOP: Final = b"\x90"


class Assembler:
    """Collects items; `program` places them. Every item has the same length wherever it lies."""

    def __init__(self, base: int = layout.LOW, offset: int = 0x100) -> None:
        self.base = base
        self.offset = offset
        self._items: list[tuple[str, Callable[[int, dict[str, int]], bytes]]] = []
        self._fresh = 0

    def raw(self, code: bytes | str) -> Assembler:
        """Bytes as they are (a string: hexadecimal)."""
        data = bytes.fromhex(code) if isinstance(code, str) else code
        self._items.append(("", lambda ip, labels: data))
        return self

    def label(self, name: str) -> Assembler:
        """A name for this address."""
        self._items.append((name, lambda ip, labels: b""))
        return self

    def fresh(self) -> str:
        """A label's name that nobody uses."""
        self._fresh += 1
        return f"_{self._fresh}"

    def branch(self, code: int, target: str) -> Assembler:
        """A direct branch, call or loop to a label."""
        self._items.append(("", lambda ip, labels: encode(Instruction.create_branch(code, labels.get(target, ip)), ip)))
        return self

    def address(self, register: int, target: str) -> Assembler:
        """mov register, address of a label."""
        return self.late(lambda labels: Instruction.create_reg_u64(Code.MOV_R64_IMM64, register, labels.get(target, 0)))

    def load(self, register: int, value: int) -> Assembler:
        """mov register, 64-bit value."""
        return self.op(Instruction.create_reg_u64(Code.MOV_R64_IMM64, register, value & (1 << 64) - 1))

    def op(self, instruction: Instruction) -> Assembler:
        """An instruction that does not depend on labels."""
        self._items.append(("", lambda ip, labels: encode(instruction, ip)))
        return self

    def late(self, make: Callable[[dict[str, int]], Instruction]) -> Assembler:
        """An instruction that depends on labels (empty when lengths are found out)."""
        self._items.append(("", lambda ip, labels: encode(make(labels), ip)))
        return self

    def pad_to(self, offset: int) -> Assembler:
        """NOPs up to an offset from the base."""
        self._items.append(("", lambda ip, labels: _NOP * (self.base + offset - ip)))
        return self

    def code(self) -> tuple[bytes, dict[str, int]]:
        """The bytes, and the addresses of the labels."""
        labels: dict[str, int] = {}
        code = b""
        for _ in range(2):
            found: dict[str, int] = {}
            code = b""
            for name, emit in self._items:
                ip = self.base + self.offset + len(code)
                if name:
                    found[name] = ip
                code += emit(ip, labels)
            labels = found
        return code, labels

    def program(self, **options: Any) -> Program:
        """The program with these bytes; `options` are Program's."""
        return Program(self.code()[0], base=self.base, offset=self.offset, **options)


def encode(instruction: Instruction, ip: int) -> bytes:
    """One instruction's bytes at `ip`."""
    encoder = Encoder(64)
    encoder.encode(instruction, ip)
    return encoder.take_buffer()


def memory(base: int = Register.NONE, displacement: int = 0, index: int = Register.NONE, scale: int = 1) -> MemoryOperand:
    """[base + index * scale + displacement], the displacement always 32 bits wide where there is a base."""
    size = 0 if base == Register.NONE and index == Register.NONE else 8
    return MemoryOperand(base, index, scale, displacement, size)


def relative_to_rip(address: int) -> MemoryOperand:
    """[rip + x] that means `address`."""
    return MemoryOperand(Register.RIP, displ=address - (address >> 63 << 64), displ_size=8)
