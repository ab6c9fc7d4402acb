"""Lockstep: a program runs translated, and must do what it does on the bare engine.

`check` runs it in many ways: freely into a cold cache and again into a warm one, to an instruction count (that is, in
precise units), one instruction at a time, up to chosen counts and on from there, and with breakpoints; a CPL-3 program
also in place (`--user=direct`). Every way must pass through the reference's states. The very first instruction of a run
always has a precise unit to itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any, Final

import lockstep_layout as layout
import lockstep_reference
from hypothesis import HealthCheck, settings
from iced_x86 import Decoder, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register
from lockstep_reference import CR0, CR4, EFER
from lockstep_state import (
    CONTROL_NAMES,
    RF,
    VECTOR_NAMES,
    WITH_ERROR_CODE,
    Fault,
    Outcome,
    Program,
    Registers,
    compared,
)

from dbgvmm import Machine, MachineConfig
from dbgvmm.boot.segments import BootSegment
from dbgvmm.boot.state import BootState, CpuMode
from dbgvmm.debug.stops import StopKind
from dbgvmm.hardware.fpu import read_fpu, write_fpu
from dbgvmm.hardware.layout import END_OF_USER, is_canonical

FAR: Final = 1_000_000
"""So many instructions ahead of its limit a machine runs in normal units."""
DETERMINISTIC: Final = settings(
    derandomize=True, database=None, deadline=None, max_examples=200, suppress_health_check=list(HealthCheck)
)
"""For `hypothesis`: the same examples every time, and not too many."""
_CODE, _DATA, _TASK = 0xA09B, 0xC093, 0x008B
_FLAT: Final = 0xFFFF_FFFF
_WRITE: Final = 2
_GP, _SS, _PF = 13, 12, 14
_LEAVE: Final = b"\xeb\x00\x0f\x0b"
"""`jmp` to UD2, which does not run in place: so it has a block of its own."""


class Translated:
    """A machine whose guest is the lockstep world, used for many programs."""

    def __init__(self, **options: Any) -> None:
        self.machine = Machine(MachineConfig(memory=layout.RAM_SIZE, **options))
        self._began = 0
        self._program: Program | None = None

    def load(self, program: Program, *, warm: bool = False) -> None:
        """Set memory and CPU to the program's start. `warm` keeps the translations: the code must be unchanged."""
        machine = self.machine
        if not warm:
            machine.breakpoints.clear()
            machine.cache.flush()
            machine.mmu.drop_all()
        machine.ram.bytes[:] = program.image()
        self.enter(program)

    def enter(self, program: Program) -> None:
        """Set the CPU to the program's start, and leave memory and what is known of it as they are."""
        machine = self.machine
        machine.start(self._state(program))
        machine.board.reset()  # or the timer, as firmware leaves it, would keep the first instructions precise
        cpu = machine.cpu
        cpu.idtr.base, cpu.idtr.limit = layout.SYSTEM + layout.IDT, 32 * 16 - 1
        cpu.cpl = program.cpl
        for name, data in program.vectors().items():
            write_fpu(machine.engine, name, data)
        self._program = program
        self._began = machine.count

    @staticmethod
    def _state(program: Program) -> BootState:
        user = program.cpl == 3
        ring = 3 << 5 if user else 0
        code, data = (layout.USER_CODE, layout.USER_DATA) if user else (layout.KERNEL_CODE, layout.KERNEL_DATA)
        names = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
        return BootState(
            mode=CpuMode.LONG64, rip=program.start, gpr=dict(zip(names, program.registers(), strict=True)),
            cr0=CR0, cr3=layout.ROOT, cr4=CR4, efer=EFER,
            segments={
                "cs": BootSegment(code, 0, _FLAT, _CODE | ring), "ss": BootSegment(data, 0, _FLAT, _DATA | ring),
                "ds": BootSegment(0, 0, 0, 0), "es": BootSegment(0, 0, 0, 0),
                "fs": BootSegment(0, program.fs_base, 0, 0), "gs": BootSegment(0, program.gs_base, 0, 0),
                "tr": BootSegment(layout.TASK, layout.SYSTEM + layout.TSS, layout.TSS_LIMIT, _TASK),
            },
            gdt_base=layout.SYSTEM + layout.GDT, gdt_limit=layout.GDT_LIMIT, entry_name="lockstep", symbols_file=None,
            protocol="elf64", rflags=program.rflags,
        )  # fmt: skip

    @property
    def retired(self) -> int:
        """Instructions of the program retired so far, the handler's `hlt` left out."""
        return self.machine.count - self._began - self.faulted

    @property
    def faulted(self) -> bool:
        """Whether the program has ended in an exception: the machine stands behind a handler's `hlt`."""
        first = layout.SYSTEM + layout.HANDLERS
        return first <= self.machine.cpu.rip < first + layout.PAGE

    def run_to(self, count: int) -> None:
        """Run until so many instructions of the program have retired, or it has faulted."""
        stop = self.machine.run(max_count=self._began + count)
        if not (stop.kind is StopKind.LIMIT or stop.kind is StopKind.HALT and self.faulted):
            raise AssertionError(f"unexpected stop: {stop}")

    def run_freely(self, end: int, visits: int) -> None:
        """Run with no limit near until the program has arrived at `end` so many times, or has faulted."""
        machine = self.machine
        machine.breakpoints.add(end)
        for _ in range(visits):
            stop = machine.run(max_count=machine.count + FAR)
            if stop.kind is StopKind.HALT and self.faulted:
                break
            if stop.kind is not StopKind.BREAKPOINT:
                raise AssertionError(f"unexpected stop: {stop}")
        machine.breakpoints.remove(end)

    def registers(self) -> Registers:
        """The state in the program (behind a fault: as the exception's frame has it)."""
        cpu = self.machine.cpu
        gpr = list(cpu.gpr)
        if not self.faulted:
            return Registers(tuple(gpr), cpu.rip, cpu.rflags & ~RF)
        rip, _, rflags, rsp, _ = self._frame()
        gpr[4] = rsp
        return Registers(tuple(gpr), rip, rflags & ~RF)

    def _frame(self) -> tuple[int, int, int, int, int]:
        top = layout.IST_STACK + layout.PAGE
        rip, cs, rflags, rsp, ss = struct.unpack("<5Q", self.machine.ram.bytes[top - 40 : top])
        return rip, cs, rflags, rsp, ss

    def fault(self) -> Fault | None:
        """The exception that ended the program."""
        if not self.faulted:
            return None
        vector = (self.machine.cpu.rip - layout.SYSTEM - layout.HANDLERS) // layout.HANDLER_SIZE
        error = None
        if vector in WITH_ERROR_CODE:
            top = layout.IST_STACK + layout.PAGE
            error = int.from_bytes(self.machine.ram.bytes[top - 48 : top - 40], "little")
        return Fault(vector, error, self.machine.cpu.cr2 if vector == _PF else None)

    def vectors(self) -> dict[str, bytes]:
        """FPU and SSE registers."""
        return {name: read_fpu(self.machine.engine, name) for name in (*VECTOR_NAMES, *CONTROL_NAMES)}

    def memory(self) -> bytes:
        """What of memory is compared."""
        return compared(self.machine.ram.bytes)


@cache
def translated() -> Translated:
    """The machine that all tests of a process share."""
    return Translated()


@cache
def in_place() -> Translated:
    """The machine whose CPL-3 programs are not translated."""
    return Translated(user="direct")


_info = InstructionInfoFactory()
_READ_WRITE: Final = frozenset((OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))


def as_hardware(fault: Fault, program: Program, outcome: Outcome) -> Fault:
    """A fault as the manuals have it, where the engine is known to say something else.

    It reports the load of a read-modify-write first (SDM vol. 3A, 4.7: the access is a write), and every non-canonical
    address as #GP, those through SS too (SDM vol. 3A, 6.15, interrupt 12).
    """
    rip = outcome.final.rip
    at = rip - program.base
    if not 0 <= at < layout.CODE_PAGES * layout.PAGE or fault.cr2 == rip:
        return fault
    instruction = Decoder(64, outcome.memory[at : at + 15], ip=rip).decode()
    if fault.vector == _PF and fault.error is not None:
        writes = any(use.access in _READ_WRITE for use in _info.info(instruction).used_memory())
        return Fault(_PF, fault.error | _WRITE, fault.cr2) if writes else fault
    if fault.vector == _GP and fault.error == 0:
        has_memory = any(instruction.op_kind(n) == OpKind.MEMORY for n in range(instruction.op_count))
        stack = outcome.final.gpr[5] if instruction.mnemonic == Mnemonic.LEAVE else outcome.final.gpr[4]
        through_rsp = instruction.is_stack_instruction and not (is_canonical(stack) and is_canonical(stack - 8))
        if instruction.memory_segment == Register.SS if has_memory else through_rsp:
            return Fault(_SS, 0, None)
    return fault


def compare_end(machine: Translated, expected: Outcome, program: Program, how: str) -> None:
    """Everything that can be seen at the end of a run."""
    fault = expected.fault
    if fault is not None:
        fault = as_hardware(fault, program, expected)
    assert machine.fault() == fault, f"{how}: {machine.fault()} not {fault}, at {machine.registers().rip:#x}"
    compare_registers(machine, expected.final, len(expected.states) - 1, how)
    found = machine.vectors()
    different = {name: (found[name].hex(), value.hex()) for name, value in expected.vectors.items() if found[name] != value}
    assert not different, f"{how}: {different}"
    memory = machine.memory()
    if memory != expected.memory:
        at = [n for n, (mine, theirs) in enumerate(zip(memory, expected.memory, strict=True)) if mine != theirs]
        raise AssertionError(f"{how}: {len(at)} bytes of memory differ, first physical {layout.CODE_FRAME + at[0]:#x}")


def compare_registers(machine: Translated, expected: Registers, index: int, how: str) -> None:
    """Registers and count after `index` instructions."""
    difference = machine.registers().difference(expected)
    assert not difference, f"{how}, after {index} instructions: {difference}"
    assert machine.retired == index, f"{how}: {machine.retired} instructions retired, not {index}"


def check(program: Program, stops: Iterable[int] = ()) -> Outcome:
    """Run the program all ways; `stops` are instruction counts to stop at. Returns what the reference did."""
    expected = lockstep_reference.run(program)
    length = len(expected.states) - 1
    through = length + 2 * (expected.fault is not None)
    machine = translated()
    warm = _keeps_its_code(program, expected)
    _check_free(machine, program, expected, warm)
    machine.load(program, warm=warm)
    machine.run_to(through)
    compare_end(machine, expected, program, "to the count")
    _check_steps(machine, program, expected, warm)
    for stop in stops:
        at = stop % (length + 1)
        machine.load(program, warm=warm)
        machine.run_to(at)
        compare_registers(machine, expected.states[at], at, "stopped")
        machine.run_to(through)
        compare_end(machine, expected, program, f"stopped at {at} and continued")
    _check_breakpoints(machine, program, expected)
    if program.cpl == 3 and program.base < END_OF_USER:
        _check_in_place(program, expected)
    return expected


def _keeps_its_code(program: Program, expected: Outcome) -> bool:
    size = layout.CODE_PAGES * layout.PAGE
    return expected.memory[:size] == program.image()[layout.CODE_FRAME : layout.CODE_FRAME + size]


def _check_in_place(program: Program, expected: Outcome) -> None:
    """Code runs in place with no deadline and no breakpoint near, so the program must end by itself: in a fault."""
    if expected.fault is None:
        program = replace(program, code=program.code + _LEAVE)
        expected = lockstep_reference.run(program)
        if expected.fault is None:
            return  # it reached its limit
    machine, warm = in_place(), _keeps_its_code(program, expected)
    for how in ("in place", "in place again"):
        machine.load(program, warm=warm and how != "in place")
        machine.run_freely(layout.SYSTEM, 1)
        compare_end(machine, expected, program, how)


def _check_free(machine: Translated, program: Program, expected: Outcome, warm: bool) -> None:
    for how in ("cold", "again"):
        machine.load(program, warm=warm and how == "again")
        if expected.fault is not None:
            machine.run_freely(layout.SYSTEM, 1)  # where no program goes
        elif len(expected.states) > 1:
            machine.run_freely(expected.final.rip, sum(state.rip == expected.final.rip for state in expected.states[1:]))
        compare_end(machine, expected, program, how)


def _check_steps(machine: Translated, program: Program, expected: Outcome, warm: bool) -> None:
    machine.load(program, warm=warm)
    for index in range(1, len(expected.states)):
        machine.machine.step()
        compare_registers(machine, expected.states[index], index, "stepped")
    if expected.fault is not None:
        machine.run_to(len(expected.states) + 1)
    compare_end(machine, expected, program, "stepped")


def _check_breakpoints(machine: Translated, program: Program, expected: Outcome) -> None:
    """Breakpoints at every other instruction: each arrival is seen once, in the reference's state."""
    rips = sorted({state.rip for state in expected.states})
    points = set(rips[1::2])
    machine.load(program)
    for rip in points:
        machine.machine.breakpoints.add(rip)
    through = len(expected.states) - 1 + 2 * (expected.fault is not None)
    for index, state in enumerate(expected.states[1:], 1):
        if state.rip not in points or index == through:
            continue
        stop = machine.machine.run(max_count=machine.machine.count - machine.retired + through)
        assert stop.kind is StopKind.BREAKPOINT and stop.address == state.rip, f"{stop}, not a breakpoint at {state.rip:#x}"
        compare_registers(machine, expected.states[index], index, "breakpoint")
    if not (machine.retired == through and expected.fault is None):
        machine.run_to(through)
    compare_end(machine, expected, program, "with breakpoints")
    machine.machine.breakpoints.clear()
