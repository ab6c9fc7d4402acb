"""Sensitive instructions, carried out by the monitor: one method per instruction, in a table by mnemonic.

Each runs with cpu.rip at the instruction and exact state; it raises GuestFault with the state unchanged, or returns
True if it set RIP itself (else the caller moves RIP behind the instruction).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iced_x86 import Code, Instruction, MemorySizeExt, Mnemonic, OpKind, Register, RegisterExt

from dbgvmm.bt.operands import Operands
from dbgvmm.bt.port_callouts import PortCallouts, Ports
from dbgvmm.bt.segment_callouts import SegmentCallouts
from dbgvmm.cpu import (
    control,
    debug_registers,
    far,
    flags,
    iret,
    privilege,
    segments,
    transfer,
)
from dbgvmm.cpu.bits import CR4, GPR, RFLAGS
from dbgvmm.cpu.cpuid import CpuidTable
from dbgvmm.cpu.faults import GuestFault, general_protection, invalid_opcode
from dbgvmm.cpu.msr import MsrTable
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import MASK64, is_canonical
from dbgvmm.mmu.linear import GuestMemory
from dbgvmm.mmu.mmu import ShadowMmu

SIMPLE = frozenset(
    (Mnemonic.IN, Mnemonic.OUT, Mnemonic.RDMSR, Mnemonic.WRMSR, Mnemonic.CPUID, Mnemonic.RDTSC, Mnemonic.RDTSCP,
     Mnemonic.SWAPGS, Mnemonic.INVLPG, Mnemonic.MOV, Mnemonic.WBINVD, Mnemonic.CLTS)
)  # fmt: skip
"""These neither read nor write RFLAGS and never jump."""
Handler = Callable[[Instruction], Any]


class Callouts:
    """Carries out sensitive instructions on one CPU."""

    def __init__(
        self, cpu: VCpu, mmu: ShadowMmu, memory: GuestMemory, ports: Ports, msrs: MsrTable, cpuid: CpuidTable,
        synchronise_clock: Callable[[], None], control_changed: Callable[[], None],
        time_changed: Callable[[], None],
    ) -> None:
        self.cpu = cpu
        self.mmu = mmu
        self.memory = memory
        self.msrs = msrs
        self.cpuid_table = cpuid
        self.synchronise_clock = synchronise_clock
        self.control_changed = control_changed
        self.time_changed = time_changed
        self.operands = Operands(cpu, memory)
        self.port_callouts = PortCallouts(cpu, memory, self.operands, ports, synchronise_clock, time_changed)
        families = (self, SegmentCallouts(cpu, memory, self.operands), self.port_callouts)
        self.on_msr: Callable[[int, int, bool], None] | None = None
        """Called with (number, value, whether it writes) after each RDMSR and WRMSR that did not fault."""
        self.on_syscall: Callable[[], None] | None = None
        """Called after each SYSCALL that did not fault, with the CPU in front of the kernel's first instruction."""
        self.by_mnemonic: dict[str, int] = {}
        names = {getattr(Mnemonic, name): name for name in dir(Mnemonic) if name.isupper()}
        self.table: dict[int, Handler] = {}
        for mnemonic, name in names.items():
            for family in families:
                method = getattr(family, "do_" + name.lower(), None)
                if method is not None:
                    self.table[mnemonic] = method
        self.names = names

    def execute(self, instruction: Instruction) -> bool:
        """Carry out the instruction; True if RIP was set. Raises GuestFault, TripleFault."""
        handler = self.table.get(instruction.mnemonic)
        if handler is None:
            if instruction.code == Code.INVALID and instruction.len >= 15:
                raise general_protection(0, "an instruction of more than 15 bytes")
            raise invalid_opcode(f"{self.names.get(instruction.mnemonic, '?')} is not supported by this CPU")
        return bool(handler(instruction))

    # -- control registers

    def do_mov(self, i: Instruction) -> None:
        cpu, code = self.cpu, i.code
        if code in (Code.MOV_SREG_RM16, Code.MOV_SREG_R32M16, Code.MOV_SREG_R64M16):
            register = i.op0_register
            if register == Register.CS:
                raise invalid_opcode("mov to CS")
            if i.op1_kind == OpKind.MEMORY:
                selector = self.operands.read_memory(self.operands.linear(i), 2)
            else:
                selector = self.operands.read(i, 1) & 0xFFFF
            segments.mov_to_sreg(cpu, self.memory, self.operands.segment_index(register), selector)
        elif code in (Code.MOV_R64_CR, Code.MOV_R32_CR):
            self.operands.set_register(i.op0_register, control.mov_from_cr(cpu, RegisterExt.number(i.op1_register)))
        elif code in (Code.MOV_CR_R64, Code.MOV_CR_R32):
            control.mov_to_cr(cpu, RegisterExt.number(i.op0_register), self.operands.register(i.op1_register))
            self.control_changed()
        elif code in (Code.MOV_R64_DR, Code.MOV_R32_DR):
            value = debug_registers.mov_from_dr(cpu, RegisterExt.number(i.op1_register))
            self.operands.set_register(i.op0_register, value)
        else:
            number = RegisterExt.number(i.op0_register)
            debug_registers.mov_to_dr(cpu, number, self.operands.register(i.op1_register))

    def do_clts(self, i: Instruction) -> None:
        control.clts(self.cpu)
        self.control_changed()

    def do_lmsw(self, i: Instruction) -> None:
        control.lmsw(self.cpu, self.operands.word(i))
        self.control_changed()

    def do_smsw(self, i: Instruction) -> None:
        value = control.smsw(self.cpu)
        self.operands.write(i, 0, value)

    def do_xsetbv(self, i: Instruction) -> None:
        control.xsetbv(self.cpu)

    def do_invlpg(self, i: Instruction) -> None:
        privilege.require_cpl0(self.cpu)
        try:
            address = self.operands.linear(i)
        except GuestFault:
            return  # a non-canonical address is no fault here (SDM vol. 2A, INVLPG)
        self.mmu.invlpg(address)

    def do_invpcid(self, i: Instruction) -> None:
        privilege.require_cpl0(self.cpu)
        if "invpcid" not in self.cpuid_table.features:
            raise invalid_opcode("INVPCID is not in CPUID")
        kind = self.operands.register(i.op0_register)
        address = self.operands.linear(i)
        descriptor = self.memory.read(address, 16, False)
        pcid, va = int.from_bytes(descriptor[:8], "little"), int.from_bytes(descriptor[8:], "little")
        if kind > 3 or (kind < 2 and pcid >> 12) or (kind == 0 and not is_canonical(va)):
            raise general_protection(0, "INVPCID type or descriptor")
        if kind < 2 and pcid and not self.cpu.cr4 & CR4.PCIDE:
            raise general_protection(0, "INVPCID with a PCID while CR4.PCIDE is clear")
        self.mmu.invpcid(kind, pcid, va)

    def _nothing_privileged(self, i: Instruction) -> None:
        privilege.require_cpl0(self.cpu)

    do_wbinvd = do_invd = do_wbnoinvd = _nothing_privileged

    # -- MSRs, identification, time

    def do_rdmsr(self, i: Instruction) -> None:
        self.synchronise_clock()
        number = self.cpu.gpr[GPR.RCX] & 0xFFFF_FFFF
        self.msrs.rdmsr(self.cpu)
        if self.on_msr is not None:
            self.on_msr(number, self._edx_eax(), False)

    def do_wrmsr(self, i: Instruction) -> None:
        self.synchronise_clock()
        self.msrs.wrmsr(self.cpu)
        if self.on_msr is not None:
            self.on_msr(self.cpu.gpr[GPR.RCX] & 0xFFFF_FFFF, self._edx_eax(), True)
        self.time_changed()  # the TSC may have been set

    def _edx_eax(self) -> int:
        gpr = self.cpu.gpr
        return gpr[GPR.RAX] & 0xFFFF_FFFF | (gpr[GPR.RDX] & 0xFFFF_FFFF) << 32

    def do_cpuid(self, i: Instruction) -> None:
        self.cpuid_table.cpuid(self.cpu)

    def do_rdtsc(self, i: Instruction) -> None:
        self.synchronise_clock()
        if self.cpu.cr4 & CR4.TSD and self.cpu.cpl:
            raise general_protection(0, "RDTSC with CR4.TSD")
        value = self.msrs.tsc(self.cpu)
        self.cpu.gpr[GPR.RAX] = value & 0xFFFF_FFFF
        self.cpu.gpr[GPR.RDX] = value >> 32 & 0xFFFF_FFFF

    def do_rdtscp(self, i: Instruction) -> None:
        if "rdtscp" not in self.cpuid_table.features:
            raise invalid_opcode("RDTSCP is not in CPUID")
        self.do_rdtsc(i)
        self.cpu.gpr[GPR.RCX] = self.cpu.tsc_aux & 0xFFFF_FFFF

    def do_rdpmc(self, i: Instruction) -> None:
        raise general_protection(0, "no performance counters")

    # -- transfers

    def do_int(self, i: Instruction) -> bool:
        transfer.int_n(self.cpu, self.memory, i.immediate8, i.next_ip)
        return True

    def do_int3(self, i: Instruction) -> bool:
        transfer.int3(self.cpu, self.memory, i.next_ip)
        return True

    def do_int1(self, i: Instruction) -> bool:
        transfer.icebp(self.cpu, self.memory, i.next_ip)
        return True

    def do_into(self, i: Instruction) -> bool:
        transfer.into(self.cpu, self.memory, i.next_ip)
        return True

    def do_iretq(self, i: Instruction) -> bool:
        iret.iret(self.cpu, self.memory, 8)
        return True

    def do_iretd(self, i: Instruction) -> bool:
        iret.iret(self.cpu, self.memory, 4)
        return True

    def do_iret(self, i: Instruction) -> bool:
        iret.iret(self.cpu, self.memory, 2)
        return True

    def do_syscall(self, i: Instruction) -> bool:
        transfer.syscall(self.cpu, i.next_ip)
        if self.on_syscall is not None:
            self.on_syscall()
        return True

    def do_sysretq(self, i: Instruction) -> bool:
        transfer.sysret(self.cpu, 8)
        return True

    def do_sysret(self, i: Instruction) -> bool:
        transfer.sysret(self.cpu, 4)
        return True

    def do_sysenter(self, i: Instruction) -> bool:
        transfer.sysenter(self.cpu)
        return True

    def do_sysexitq(self, i: Instruction) -> bool:
        transfer.sysexit(self.cpu, 8)
        return True

    def do_sysexit(self, i: Instruction) -> bool:
        transfer.sysexit(self.cpu, 4)
        return True

    def _far_pointer(self, i: Instruction) -> tuple[int, int, int]:
        """Selector, offset and operand size of a far jump or call."""
        if i.op0_kind == OpKind.FAR_BRANCH16:
            return i.far_branch_selector, i.far_branch16, 2
        if i.op0_kind == OpKind.FAR_BRANCH32:
            return i.far_branch_selector, i.far_branch32, 4
        size = MemorySizeExt.size(i.memory_size) - 2
        address = self.operands.linear(i)
        offset = self.operands.read_memory(address, size)
        return self.operands.read_memory(address + size & MASK64, 2), offset, size

    def do_jmp(self, i: Instruction) -> bool:
        selector, offset, size = self._far_pointer(i)
        far.far_jmp(self.cpu, self.memory, selector, offset, size)
        return True

    def do_call(self, i: Instruction) -> bool:
        selector, offset, size = self._far_pointer(i)
        far.far_call(self.cpu, self.memory, selector, offset, size, i.next_ip)
        return True

    def do_retf(self, i: Instruction) -> bool:
        size = {Code.RETFW: 2, Code.RETFW_IMM16: 2, Code.RETFD: 4, Code.RETFD_IMM16: 4}.get(i.code, 8)
        far.far_ret(self.cpu, self.memory, size, i.immediate16 if i.op_count else 0)
        return True

    def do_hlt(self, i: Instruction) -> None:
        flags.hlt(self.cpu)

    # -- flags

    def do_cli(self, i: Instruction) -> None:
        flags.cli(self.cpu)

    def do_sti(self, i: Instruction) -> None:
        flags.sti(self.cpu)

    def _popf(self, size: int) -> None:
        rsp = self.cpu.gpr[GPR.RSP]
        value = self.operands.read_memory(self.operands.stack(rsp), size)
        flags.popf(self.cpu, value, size)
        self.cpu.gpr[GPR.RSP] = rsp + size & MASK64

    def _pushf(self, size: int) -> None:
        rsp = self.cpu.gpr[GPR.RSP] - size & MASK64
        self.operands.write_memory(self.operands.stack(rsp), flags.pushf(self.cpu, size), size)
        self.cpu.gpr[GPR.RSP] = rsp

    def do_popfq(self, i: Instruction) -> None:
        self._popf(8)

    def do_popfd(self, i: Instruction) -> None:
        self._popf(4)

    def do_popf(self, i: Instruction) -> None:
        self._popf(2)

    def do_pushfq(self, i: Instruction) -> None:
        self._pushf(8)

    def do_pushfd(self, i: Instruction) -> None:
        self._pushf(4)

    def do_pushf(self, i: Instruction) -> None:
        self._pushf(2)

    def _access_check(self, value: int) -> None:
        privilege.require_cpl0(self.cpu)
        if "smap" not in self.cpuid_table.features:
            raise invalid_opcode("STAC/CLAC without SMAP")
        self.cpu.rflags = self.cpu.rflags & ~RFLAGS.AC | value

    def do_stac(self, i: Instruction) -> None:
        self._access_check(RFLAGS.AC)

    def do_clac(self, i: Instruction) -> None:
        self._access_check(0)
