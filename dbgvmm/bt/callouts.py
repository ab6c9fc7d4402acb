"""Sensitive instructions, carried out by the monitor: one method per instruction, in a table by mnemonic.

Each runs with cpu.rip at the instruction and exact state; it raises GuestFault with the state unchanged, or returns
True if it set RIP itself (else the caller moves RIP behind the instruction).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from iced_x86 import Code, Instruction, MemorySizeExt, Mnemonic, OpKind, Register, RegisterExt

from dbgvmm.bt.operands import Operands
from dbgvmm.cpu import (
    control,
    debug_registers,
    far,
    flags,
    fsgsbase,
    io_permission,
    iret,
    privilege,
    segment_queries,
    segments,
    tables,
    transfer,
)
from dbgvmm.cpu.bits import CR4, GPR, RFLAGS, SReg
from dbgvmm.cpu.cpuid import CpuidTable
from dbgvmm.cpu.faults import GuestFault, general_protection, invalid_opcode
from dbgvmm.cpu.msr import MsrTable
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import MASK64, is_canonical
from dbgvmm.mmu.linear import GuestMemory
from dbgvmm.mmu.mmu import ShadowMmu


class Ports(Protocol):
    """The I/O port space."""

    @property
    def seconds(self) -> float: ...

    def read(self, port: int, size: int) -> int: ...

    def write(self, port: int, value: int, size: int) -> None: ...


_POP_WORD = frozenset((Code.POPW_FS, Code.POPW_GS, Code.POPW_ES, Code.POPW_DS, Code.POPW_SS))
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
        self.ports = ports
        self.msrs = msrs
        self.cpuid_table = cpuid
        self.synchronise_clock = synchronise_clock
        self.control_changed = control_changed
        self.time_changed = time_changed
        self.operands = Operands(cpu, memory)
        self.port_io = 0
        self.by_mnemonic: dict[str, int] = {}
        names = {getattr(Mnemonic, name): name for name in dir(Mnemonic) if name.isupper()}
        self.table: dict[int, Handler] = {}
        for mnemonic, name in names.items():
            method = getattr(self, "do_" + name.lower(), None)
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
        control.lmsw(self.cpu, self._word(i))
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

    # -- descriptor tables

    def _word(self, i: Instruction) -> int:
        if i.op0_kind == OpKind.MEMORY:
            return self.operands.read_memory(self.operands.linear(i), 2)
        return self.operands.read(i, 0) & 0xFFFF

    def _table_size(self) -> int:
        return 8 if self.cpu.in_64bit_code else 4

    def do_lgdt(self, i: Instruction) -> None:
        tables.lgdt(self.cpu, self.memory, self.operands.linear(i), self._operand_size(i))
        self.cpu.on_segments_changed(self.cpu)  # IRETQ in the TC knows where descriptors are

    def do_lidt(self, i: Instruction) -> None:
        tables.lidt(self.cpu, self.memory, self.operands.linear(i), self._operand_size(i))

    def _operand_size(self, i: Instruction) -> int:
        if self.cpu.in_64bit_code:
            return 8
        return 2 if i.code in (Code.LGDT_M1632_16, Code.LIDT_M1632_16) else 4

    def do_sgdt(self, i: Instruction) -> None:
        tables.sgdt(self.cpu, self.memory, self.operands.linear(i))

    def do_sidt(self, i: Instruction) -> None:
        tables.sidt(self.cpu, self.memory, self.operands.linear(i))

    def do_lldt(self, i: Instruction) -> None:
        tables.lldt(self.cpu, self.memory, self._word(i))

    def do_ltr(self, i: Instruction) -> None:
        tables.ltr(self.cpu, self.memory, self._word(i))

    def _store_selector(self, i: Instruction, value: int) -> None:
        if i.op0_kind == OpKind.MEMORY:
            self.operands.write_memory(self.operands.linear(i), value, 2)
        else:
            self.operands.set_register(i.op0_register, value)

    def do_sldt(self, i: Instruction) -> None:
        self._store_selector(i, tables.sldt(self.cpu))

    def do_str(self, i: Instruction) -> None:
        self._store_selector(i, tables.store_tr(self.cpu))

    # -- segments

    def _query(self, i: Instruction, value: int | None) -> None:
        rflags = self.cpu.rflags & ~RFLAGS.ZF
        if value is not None:
            self.operands.set_register(i.op0_register, value)
            rflags |= RFLAGS.ZF
        self.cpu.rflags = rflags

    def _selector(self, i: Instruction, operand: int) -> int:
        if i.op_kind(operand) == OpKind.MEMORY:
            return self.operands.read_memory(self.operands.linear(i), 2)
        return self.operands.read(i, operand) & 0xFFFF

    def do_lar(self, i: Instruction) -> None:
        self._query(i, segment_queries.lar(self.cpu, self.memory, self._selector(i, 1)))

    def do_lsl(self, i: Instruction) -> None:
        self._query(i, segment_queries.lsl(self.cpu, self.memory, self._selector(i, 1)))

    def _verify(self, good: bool) -> None:
        self.cpu.rflags = self.cpu.rflags & ~RFLAGS.ZF | (RFLAGS.ZF if good else 0)

    def do_verr(self, i: Instruction) -> None:
        self._verify(segment_queries.verr(self.cpu, self.memory, self._selector(i, 0)))

    def do_verw(self, i: Instruction) -> None:
        self._verify(segment_queries.verw(self.cpu, self.memory, self._selector(i, 0)))

    def do_pop(self, i: Instruction) -> None:
        cpu = self.cpu
        size = 2 if i.code in _POP_WORD else 8 if cpu.in_64bit_code else 4
        rsp = cpu.gpr[GPR.RSP]
        value = self.operands.read_memory(self._stack(rsp), size) & 0xFFFF
        segments.mov_to_sreg(cpu, self.memory, self.operands.segment_index(i.op0_register), value)
        cpu.gpr[GPR.RSP] = rsp + size & MASK64

    def _far_load(self, i: Instruction, segment: int) -> None:
        size = RegisterExt.size(i.op0_register)
        address = self.operands.linear(i)
        offset = self.operands.read_memory(address, size)
        selector = self.operands.read_memory(address + size & MASK64, 2)
        segments.mov_to_sreg(self.cpu, self.memory, segment, selector)
        self.operands.set_register(i.op0_register, offset)

    def do_lss(self, i: Instruction) -> None:
        self._far_load(i, SReg.SS)

    def do_lfs(self, i: Instruction) -> None:
        self._far_load(i, SReg.FS)

    def do_lgs(self, i: Instruction) -> None:
        self._far_load(i, SReg.GS)

    def do_les(self, i: Instruction) -> None:
        self._far_load(i, SReg.ES)

    def do_lds(self, i: Instruction) -> None:
        self._far_load(i, SReg.DS)

    def do_swapgs(self, i: Instruction) -> None:
        transfer.swapgs(self.cpu)

    def _read_base(self, i: Instruction, segment: int) -> None:
        size = RegisterExt.size(i.op0_register)
        self.operands.set_register(i.op0_register, fsgsbase.read_segment_base(self.cpu, segment, size))

    def _write_base(self, i: Instruction, segment: int) -> None:
        size = RegisterExt.size(i.op0_register)
        fsgsbase.write_segment_base(self.cpu, segment, self.operands.register(i.op0_register), size)

    def do_rdfsbase(self, i: Instruction) -> None:
        self._read_base(i, SReg.FS)

    def do_rdgsbase(self, i: Instruction) -> None:
        self._read_base(i, SReg.GS)

    def do_wrfsbase(self, i: Instruction) -> None:
        self._write_base(i, SReg.FS)

    def do_wrgsbase(self, i: Instruction) -> None:
        self._write_base(i, SReg.GS)

    # -- MSRs, identification, time

    def do_rdmsr(self, i: Instruction) -> None:
        self.synchronise_clock()
        self.msrs.rdmsr(self.cpu)

    def do_wrmsr(self, i: Instruction) -> None:
        self.synchronise_clock()
        self.msrs.wrmsr(self.cpu)
        self.time_changed()  # the TSC may have been set

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
        value = self.operands.read_memory(self._stack(rsp), size)
        flags.popf(self.cpu, value, size)
        self.cpu.gpr[GPR.RSP] = rsp + size & MASK64

    def _stack(self, rsp: int) -> int:
        if self.cpu.in_64bit_code:
            return rsp
        return self.cpu.segs[SReg.SS].base + rsp & 0xFFFF_FFFF

    def _pushf(self, size: int) -> None:
        rsp = self.cpu.gpr[GPR.RSP] - size & MASK64
        self.operands.write_memory(self._stack(rsp), flags.pushf(self.cpu, size), size)
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

    # -- ports

    def _port(self, i: Instruction, operand: int) -> int:
        if i.op_kind(operand) == OpKind.REGISTER:
            return self.cpu.gpr[GPR.RDX] & 0xFFFF
        return i.immediate8

    def do_in(self, i: Instruction) -> None:
        port, size = self._port(i, 1), RegisterExt.size(i.op0_register)
        io_permission.check_port(self.cpu, self.memory, port, size)
        self.synchronise_clock()
        self.port_io += 1
        self.operands.set_register(i.op0_register, self.ports.read(port, size))
        self.time_changed()

    def do_out(self, i: Instruction) -> None:
        port, size = self._port(i, 0), RegisterExt.size(i.op1_register)
        io_permission.check_port(self.cpu, self.memory, port, size)
        self.synchronise_clock()
        self.port_io += 1
        self.ports.write(port, self.operands.register(i.op1_register), size)
        self.time_changed()

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
            self.operands.write_memory(address, self.ports.read(port, size), size)
        else:
            self.ports.write(port, self.operands.read_memory(address, size), size)
        self.port_io += 1
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
