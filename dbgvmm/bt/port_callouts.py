"""Callouts for port instructions: see callouts.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from iced_x86 import Instruction, OpKind, RegisterExt

from dbgvmm.bt.operands import Operands
from dbgvmm.cpu import io_permission
from dbgvmm.cpu.bits import GPR, RFLAGS
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import MASK64
from dbgvmm.mmu.linear import GuestMemory


class Ports(Protocol):
    """The I/O port space."""

    @property
    def seconds(self) -> float: ...

    def read(self, port: int, size: int) -> int: ...

    def write(self, port: int, value: int, size: int) -> None: ...


class PortCallouts:
    """Carries them out on one CPU; devices see the exact time, and may change what is due next."""

    def __init__(
        self, cpu: VCpu, memory: GuestMemory, operands: Operands, ports: Ports, synchronise_clock: Callable[[], None],
        time_changed: Callable[[], None],
    ) -> None:
        self.cpu = cpu
        self.memory = memory
        self.operands = operands
        self.ports = ports
        self.synchronise_clock = synchronise_clock
        self.time_changed = time_changed
        self.accesses = 0
        self.on_port: Callable[[int, int, int, bool], None] | None = None
        """Called with (port, bytes, value, whether it writes) after each access."""

    def _port(self, i: Instruction, operand: int) -> int:
        if i.op_kind(operand) == OpKind.REGISTER:
            return self.cpu.gpr[GPR.RDX] & 0xFFFF
        return i.immediate8

    def do_in(self, i: Instruction) -> None:
        port, size = self._port(i, 1), RegisterExt.size(i.op0_register)
        io_permission.check_port(self.cpu, self.memory, port, size)
        self.synchronise_clock()
        self.accesses += 1
        value = self.ports.read(port, size)
        self.operands.set_register(i.op0_register, value)
        self.time_changed()
        if self.on_port is not None:
            self.on_port(port, size, value, False)

    def do_out(self, i: Instruction) -> None:
        port, size = self._port(i, 0), RegisterExt.size(i.op1_register)
        io_permission.check_port(self.cpu, self.memory, port, size)
        self.synchronise_clock()
        self.accesses += 1
        value = self.operands.register(i.op1_register)
        self.ports.write(port, value, size)
        self.time_changed()
        if self.on_port is not None:
            self.on_port(port, size, value, True)

    def _string(self, i: Instruction, size: int, is_input: bool) -> bool:
        """One iteration of INS or OUTS; a repeated one runs again until RCX is 0 (it is interruptible)."""
        cpu, gpr = self.cpu, self.cpu.gpr
        repeated = i.has_rep_prefix or i.has_repne_prefix
        if repeated and not gpr[GPR.RCX]:
            return False
        port = gpr[GPR.RDX] & 0xFFFF
        io_permission.check_port(cpu, self.memory, port, size)
        self.synchronise_clock()
        step = MASK64 - size + 1 if cpu.rflags & RFLAGS.DF else size
        pointer = GPR.RDI if is_input else GPR.RSI
        address = gpr[pointer]
        if is_input:
            self.operands.read_memory(address, size)
            value = self.ports.read(port, size)
            self.operands.write_memory(address, value, size)
        else:
            value = self.operands.read_memory(address, size)
            self.ports.write(port, value, size)
        if self.on_port is not None:
            self.on_port(port, size, value, not is_input)
        self.accesses += 1
        self.time_changed()
        gpr[pointer] = address + step & MASK64
        if repeated:
            gpr[GPR.RCX] = gpr[GPR.RCX] - 1 & MASK64
            return gpr[GPR.RCX] != 0
        return False

    def do_insb(self, i: Instruction) -> bool:
        return self._string(i, 1, True)

    def do_insw(self, i: Instruction) -> bool:
        return self._string(i, 2, True)

    def do_insd(self, i: Instruction) -> bool:
        return self._string(i, 4, True)

    def do_outsb(self, i: Instruction) -> bool:
        return self._string(i, 1, False)

    def do_outsw(self, i: Instruction) -> bool:
        return self._string(i, 2, False)

    def do_outsd(self, i: Instruction) -> bool:
        return self._string(i, 4, False)
