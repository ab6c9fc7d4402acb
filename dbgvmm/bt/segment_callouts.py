"""Callouts for segment registers, descriptor tables, and questions about descriptors: see callouts.py."""

from __future__ import annotations

from iced_x86 import Code, Instruction, OpKind, RegisterExt

from dbgvmm.bt.operands import Operands
from dbgvmm.cpu import fsgsbase, segment_queries, segments, tables, transfer
from dbgvmm.cpu.bits import GPR, RFLAGS, SReg
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.layout import MASK64
from dbgvmm.mmu.linear import GuestMemory

_POP_WORD = frozenset((Code.POPW_FS, Code.POPW_GS, Code.POPW_ES, Code.POPW_DS, Code.POPW_SS))


class SegmentCallouts:
    """Carries them out on one CPU."""

    def __init__(self, cpu: VCpu, memory: GuestMemory, operands: Operands) -> None:
        self.cpu = cpu
        self.memory = memory
        self.operands = operands

    # -- descriptor tables

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
        tables.lldt(self.cpu, self.memory, self.operands.word(i))

    def do_ltr(self, i: Instruction) -> None:
        tables.ltr(self.cpu, self.memory, self.operands.word(i))

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
        value = self.operands.read_memory(self.operands.stack(rsp), size) & 0xFFFF
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
