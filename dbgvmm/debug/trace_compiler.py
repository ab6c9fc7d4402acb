"""Fast tracepoints: what a tracepoint collects, as a probe that writes a record to the trace area, without an exit.

A record is 16-byte aligned: a head (which tracepoint, the instruction count, the data page's address, RFLAGS), a word for
each general register, an FXSAVE image if x87 or SSE registers are wanted, and each block of memory behind its address. All
of it has a fixed place, so only what has a fixed length can be compiled; anything else is collected by the monitor.

FXSAVE of the engine does not keep the x87's last-instruction pointers: in fast frames these are unavailable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from iced_x86 import Code, Encoder, Instruction, MemoryOperand, Register, Register_

from dbgvmm.bt.probes import Probe
from dbgvmm.bt.tcdata import (
    BUDGET,
    LIMIT,
    PROBE_BUFFER,
    PROBE_COUNT,
    PROBE_PUSHED,
    PROBE_RAX,
    PROBE_RBX,
    PROBE_RCX,
    PROBE_RDX,
    PROBE_RSP,
    TRACE_NEXT,
    VIRTUAL_IOPL,
)
from dbgvmm.bt.trace_area import TRACE_SIZE
from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.agent_compiler import CannotCompile, ProgramCompiler
from dbgvmm.debug.gdb_layouts import LONG
from gdbstub.tracing import Action, CollectExpression, CollectMemory, CollectRegisters, Tracepoint, register_numbers

if TYPE_CHECKING:
    from gdbstub.agent import Program

HEAD: Final = 32
FXSAVE: Final = 512
_ALIGNMENT: Final = 16
_LARGEST_BLOCK: Final = 256
NAMES: Final = tuple(row.name for row in LONG.all)
_ASIDE: Final = {"rax": PROBE_RAX, "rcx": PROBE_RCX, "rdx": PROBE_RDX, "rbx": PROBE_RBX}
_IN_PLACE: Final = ("rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))
_SELECTORS: Final = ("es", "cs", "ss", "ds", "fs", "gs")
_BASES: Final = {"fs_base": Code.RDFSBASE_R64, "gs_base": Code.RDGSBASE_R64}
IN_HEAD: Final = ("rip", "eflags")
IN_WORDS: Final = frozenset((*_ASIDE, *_IN_PLACE, *_SELECTORS, *_BASES))
IN_FXSAVE: Final = frozenset(
    ("fctrl", "fstat", "ftag", "mxcsr", *(f"st{n}" for n in range(8)), *(f"xmm{n}" for n in range(16)))
)
NOT_KEPT: Final = frozenset(("fiseg", "fioff", "foseg", "fooff", "fop"))
UNAVAILABLE: Final = sum(1 << number for number, name in enumerate(NAMES) if name in NOT_KEPT)
_RAX, _RCX, _RDX, _RBX, _RSP = Register.RAX, Register.RCX, Register.RDX, Register.RBX, Register.RSP
_CHUNKS: Final = (
    (8, Code.MOV_R64_RM64, Code.MOV_RM64_R64, Register.RCX), (4, Code.MOV_R32_RM32, Code.MOV_RM32_R32, Register.ECX),
    (2, Code.MOV_R16_RM16, Code.MOV_RM16_R16, Register.CX), (1, Code.MOV_R8_RM8, Code.MOV_RM8_R8, Register.CL),
)  # fmt: skip


@dataclass(frozen=True)
class RecordLayout:
    """Where what is in a record. words: names of registers by offset. fxsave: offset of the image, 0 if there is none.
    blocks: (offset of the address, bytes behind it). mask: of the registers that are in it."""

    mask: int
    words: dict[int, str]
    fxsave: int
    blocks: tuple[tuple[int, int], ...]
    size: int

    @cached_property
    def registers(self) -> tuple[tuple[str, int], ...]:
        """Names and bytes of the registers, in the order of their numbers."""
        return tuple((NAMES[number], LONG.all[number].bits // 8) for number in register_numbers(self.mask))


@dataclass(frozen=True)
class FastTracepoint:
    """A tracepoint's probe, and how to read its records."""

    probe: Probe
    layout: RecordLayout


def compile_tracepoint(tracepoint: Tracepoint, number: int) -> FastTracepoint | None:
    """The fast form of a tracepoint, whose records begin with `number`; None if it has none."""
    plan = tracepoint.plan
    if plan.steps:
        return None
    try:
        return _RecordCompiler(plan.actions).compile(plan.condition, number)
    except (CannotCompile, ValueError):
        return None


def _word(offset: int) -> MemoryOperand:
    return MemoryOperand(_RBX, displ=offset, displ_size=8)


def _record(offset: int) -> MemoryOperand:
    return MemoryOperand(_RDX, displ=offset, displ_size=8)


def _load(register: Register_, operand: MemoryOperand) -> Instruction:
    return Instruction.create_reg_mem(Code.MOV_R64_RM64, register, operand)


def _store(operand: MemoryOperand, register: Register_) -> Instruction:
    return Instruction.create_mem_reg(Code.MOV_RM64_R64, operand, register)


def _point_at_record() -> list[Instruction]:
    """RDX = the record that is being written."""
    return [_load(_RDX, _word(TRACE_NEXT)), Instruction.create_reg_mem(Code.ADD_R64_RM64, _RDX, _word(PROBE_BUFFER))]


class _Collecting(ProgramCompiler):
    """A program whose trace instructions copy into the record."""

    def __init__(self, program: Program, record: _RecordCompiler) -> None:
        super().__init__(program)
        self._record = record
        if any(instruction.op.name in ("GOTO", "IF_GOTO") for instruction in program.instructions):
            raise CannotCompile("what it collects depends")

    def collect(self, length: int) -> None:
        """At the record's next place."""
        for instruction in self._record.copy(length):
            self.add(instruction)


class _RecordCompiler:
    """Lays a record out while it compiles the code that writes it."""

    def __init__(self, actions: tuple[Action, ...]) -> None:
        self._actions = actions
        self._size = HEAD
        self._words: dict[int, str] = {}
        self._fxsave = 0
        self._blocks: list[tuple[int, int]] = []

    def compile(self, condition: Program | None, number: int) -> FastTracepoint:
        """Raises CannotCompile, or ValueError if it is too long."""
        mask = 0
        for action in self._actions:
            if isinstance(action, CollectRegisters):
                mask |= action.mask
        written = self._head(number) + self._registers(mask)
        for action in self._actions:
            match action:
                case CollectMemory(base, offset, length):
                    written += _encode(self._memory(base, offset, length))
                case CollectExpression(program):
                    written += _Collecting(program, self).compile()
        size = self._size + _ALIGNMENT - 1 & -_ALIGNMENT
        written += _encode([Instruction.create_mem_i32(Code.ADD_RM64_IMM32, _word(TRACE_NEXT), size)]) + _GO_ON
        room = Instruction.create_reg_i32(Code.CMP_RM64_IMM32, _RDX, TRACE_SIZE - size)
        full = _encode([_load(_RDX, _word(TRACE_NEXT)), room])
        body = full + _jump(_JBE, len(_LEAVE) + _JUMP) + _LEAVE + _jump(_JMP, len(written)) + written
        if condition is not None:
            body = ProgramCompiler(condition).compile() + _TEST_RAX + _jump(_JE, len(body)) + body
        layout = RecordLayout(mask & ~UNAVAILABLE, self._words, self._fxsave, tuple(self._blocks), size)
        return FastTracepoint(Probe(_encode(_PUSH_FLAGS) + body, records=True), layout)

    def _place(self, length: int, alignment: int = 8) -> int:
        at = self._size + alignment - 1 & -alignment
        self._size = at + length
        return at

    def _head(self, number: int) -> bytes:
        """count = LIMIT - BUDGET + what the unit says."""
        return _encode([
            *_point_at_record(),
            Instruction.create_mem_i32(Code.MOV_RM64_IMM32, _record(0), number),
            _load(_RAX, _word(LIMIT)),
            Instruction.create_reg_mem(Code.SUB_R64_RM64, _RAX, _word(BUDGET)),
            Instruction.create_reg_mem(Code.ADD_R64_RM64, _RAX, _word(PROBE_COUNT)),
            _store(_record(8), _RAX),
            _store(_record(16), _RBX),
            _load(_RAX, _word(PROBE_PUSHED)),
            _store(_record(24), _RAX),
            Instruction.create_reg_mem(Code.MOVZX_R32_RM8, Register.EAX, _word(VIRTUAL_IOPL)),
            Instruction.create_mem_reg(Code.MOV_RM8_R8, _record(31), Register.AL),
        ])  # fmt: skip

    def _registers(self, mask: int) -> bytes:
        names = [NAMES[number] for number in register_numbers(mask)]
        code: list[Instruction] = []
        for name in names:
            if name in IN_WORDS:
                at = self._place(8)
                self._words[at] = name
                code += _register(name, at)
            elif name not in IN_FXSAVE and name not in NOT_KEPT and name not in IN_HEAD:
                raise CannotCompile(f"{name} is not collected by translated code")
        if IN_FXSAVE.intersection(names):
            self._fxsave = self._place(FXSAVE, _ALIGNMENT)
            code.append(Instruction.create_mem(Code.FXSAVE64_M512BYTE, _record(self._fxsave)))
        return _encode(code)

    def _memory(self, base: int | None, offset: int, length: int) -> list[Instruction]:
        code: list[Instruction] = [Instruction.create_reg_u64(Code.MOV_R64_IMM64, _RAX, offset & MASK64)]
        if base is not None:
            name = NAMES[base]
            if name in _ASIDE:
                code.append(Instruction.create_reg_mem(Code.ADD_R64_RM64, _RAX, _word(_ASIDE[name])))
            elif name in _IN_PLACE:
                code.append(Instruction.create_reg_reg(Code.ADD_R64_RM64, _RAX, getattr(Register, name.upper())))
            else:
                raise CannotCompile(f"an address made of {name} is not compiled")
        return code + self.copy(length)

    def copy(self, length: int) -> list[Instruction]:
        """Copy `length` bytes from the address in RAX, and the address; changes RCX and RDX."""
        if not length:
            return []
        if length > _LARGEST_BLOCK:
            raise CannotCompile(f"a block of {length} bytes")
        at = self._place(8 + length)
        self._blocks.append((at, length))
        code = [*_point_at_record(), _store(_record(at), _RAX)]
        done = 0
        for size, load, store, register in _CHUNKS:
            while length - done >= size:
                place = MemoryOperand(_RAX, displ=done, displ_size=8)
                code.append(Instruction.create_reg_mem(load, register, place))
                code.append(Instruction.create_mem_reg(store, _record(at + 8 + done), register))
                done += size
        return code


def _register(name: str, at: int) -> list[Instruction]:
    """A general or segment register, or a base, into the record."""
    if name in _IN_PLACE:
        return [_store(_record(at), getattr(Register, name.upper()))]
    if name in _ASIDE:
        return [_load(_RCX, _word(_ASIDE[name])), _store(_record(at), _RCX)]
    if name in _SELECTORS:
        read = Instruction.create_reg_reg(Code.MOV_R32M16_SREG, Register.ECX, getattr(Register, name.upper()))
        return [read, _store(_record(at), _RCX)]
    return [Instruction.create_reg(_BASES[name], _RCX), _store(_record(at), _RCX)]


def _encode(instructions: list[Instruction]) -> bytes:
    encoder = Encoder(64)
    for instruction in instructions:
        encoder.encode(instruction, 0)
    return encoder.take_buffer()


def _jump(opcode: bytes, distance: int) -> bytes:
    return opcode + distance.to_bytes(4, "little")


_JBE, _JE, _JMP = b"\x0f\x86", b"\x0f\x84", b"\xe9"
_JUMP: Final = 5
_TEST_RAX: Final = b"\x48\x85\xc0"
_LEAVE: Final = b"\xb8\x01\0\0\0"
_GO_ON: Final = b"\x31\xc0"
_PUSH_FLAGS: Final = [
    _store(_word(PROBE_RSP), _RSP),
    Instruction.create_reg_mem(Code.LEA_R64_M, _RSP, _word(PROBE_PUSHED + 8)),
    Instruction.create(Code.PUSHFQ),
    _load(_RSP, _word(PROBE_RSP)),
]
"""The guest's flags are still in place when a probe begins, but its stack is not ours."""


__all__ = ["FastTracepoint", "RecordLayout", "compile_tracepoint"]
