"""Emitters for sensitive instructions that are emulated in the TC, without an exit where nothing unusual is going on."""

from __future__ import annotations

from iced_x86 import Instruction

from dbgvmm.bt import tcdata, units
from dbgvmm.bt.emission import I32, LOAD_RAX, LOAD_RCX, STORE_RAX, STORE_RCX, U32, U64, Emission
from dbgvmm.bt.units import Site

_POPF_SPECIAL = 0x3_7100
"""TF, IOPL, NT, RF, VM: popf of any of these goes to the monitor."""


def emit_callout(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """Whatever is not emulated here."""
    out.callout(instruction, raw, guest, number)


def emit_sti(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    out.code += raw
    if not out.user:
        _pending_check(out, instruction, raw, guest, number)


def emit_popf(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    if out.precise:  # the guest may be single-stepping itself: TF and IOPL are the monitor's
        out.callout(instruction, raw, guest, number)
        return
    special = _POPF_SPECIAL & 0xFFFF if raw[0] == 0x66 else _POPF_SPECIAL
    out.code += b"\xf7\x04\x24" + U32.pack(special)
    out.jump_to_stub(b"\x0f\x85", out.exit_site(units.CALLOUT, instruction, raw, guest, number))
    out.code += raw
    if not out.user:
        _pending_check(out, instruction, raw, guest, number)


def emit_pushf(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """The kernel's hardware flags have IOPL 1 (so that cli and sti work at CPL 1): take it out of the copy."""
    out.code += raw
    if out.user:
        return
    after, retired = guest + len(raw), number + 1
    out.mark(after, retired)
    out.data_ref(STORE_RAX, tcdata.SPILL_RAX)
    out.data_ref(STORE_RCX, tcdata.SPILL_RCX)
    out.mark(after, retired, units.FIX_RAX | units.FIX_RCX)
    out.code += b"\x0f\xb6\x44\x24\x01"
    out.data_ref(b"\x0f\xb6\x0d", tcdata.VIRTUAL_IOPL)
    out.code += b"\x8d\x04\x08" + b"\x88\x44\x24\x01"
    out.data_ref(LOAD_RAX, tcdata.SPILL_RAX)
    out.data_ref(LOAD_RCX, tcdata.SPILL_RCX)


def emit_pause(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """A nop: the engine would leave its inner loop for it, in case another CPU waits."""
    out.code += b"\x90"


def emit_iretq(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """IRETQ to the same CS and SS without an exit; at the least doubt, with flags and registers untouched, a callout.

    Doubts: another selector, a descriptor that is not as when it was checked, unusual flags, a RIP that is not
    canonical. Kernels return so from interrupts, and to serialise.
    """
    if out.user or out.precise:
        out.callout(instruction, raw, guest, number)
        return
    code = out.code
    spilled = units.FIX_RAX | units.FIX_RCX
    slow: list[int] = []

    def unless_zero() -> None:
        """Go on if RCX is 0, else to the slow way."""
        code.extend(b"\xe3\x05\xe9\0\0\0\0")
        slow.append(len(code))

    out.data_ref(STORE_RAX, tcdata.SPILL_RAX)
    out.data_ref(STORE_RCX, tcdata.SPILL_RCX)
    out.mark(guest, number, spilled)
    for words, frame_offset in ((tcdata.RETURN_CS, 8), (tcdata.RETURN_SS, 32)):
        code += bytes((0x48, 0x8B, 0x4C, 0x24, frame_offset))  # mov rcx, [rsp + offset]
        out.data_ref(LOAD_RAX, words)
        code += b"\x48\x8d\x0c\x08"  # lea rcx, [rax + rcx]
        unless_zero()
        out.data_ref(LOAD_RCX, words + 8)
        code += b"\x48\x8b\x09"  # mov rcx, [rcx]: the descriptor
        out.data_ref(LOAD_RAX, words + 16)
        code += b"\x48\x8d\x0c\x08"
        unless_zero()
    for table, frame_offset in ((tcdata.USUAL_FLAGS_8, 17), (tcdata.USUAL_FLAGS_16, 18)):
        out.data_ref(b"\x48\x8d\x05", table)  # lea rax, [table]
        code += bytes((0x0F, 0xB6, 0x4C, 0x24, frame_offset))
        code += b"\x0f\xb6\x0c\x08"  # movzx ecx, byte [rax + rcx]
        unless_zero()
    # canonical if bits 63:32, sign-extended, equal bits 47:32, sign-extended
    code += b"\x48\x0f\xbf\x4c\x24\x04" + b"\x48\x63\x44\x24\x04"
    code += b"\x48\xf7\xd0" + b"\x48\x8d\x4c\x08\x01"
    unless_zero()
    code += b"\x48\x8b\x0c\x24" + b"\x48\x8d\x64\x24\x10" + b"\x9d" + b"\x48\x8b\x24\x24"
    out.data_ref(b"\x0f\xb6\x05", tcdata.PENDING)
    code += b"\x48\x91" + b"\xe3\x04" + b"\x48\x91"  # xchg; jrcxz over the exit
    out.exit(Site(units.RETURNED, out.unit, 0, retired=number + 1))
    code += b"\x48\x91"
    out.mark(guest, number, units.FIX_RCX)
    code += b"\x48\xb8" + U64.pack(out.lookup) + b"\xff\x24\xc8"
    for position in slow:
        code[position - 4 : position] = I32.pack(len(code) - position)
    out.mark(guest, number, spilled)
    out.data_ref(LOAD_RCX, tcdata.SPILL_RCX)
    out.mark(guest, number, units.FIX_RAX)
    out.data_ref(LOAD_RAX, tcdata.SPILL_RAX)
    out.mark(guest, number)
    out.callout(instruction, raw, guest, number)


def emit_rdtsc(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """TSC_BASE - (BUDGET + what this unit has counted ahead) * ticks per instruction, without touching flags.

    The kernel only (CR4.TSD is for CPL 3), and only where an instruction takes a whole number of ticks.
    """
    ticks = out.tsc.ticks
    if out.user or out.precise or not out.tsc.scale:
        out.callout(instruction, raw, guest, number)
        return
    counted = out.unit.length if number >= out.unit.count_index else 0
    correction = ticks * (1 - (counted - number - 1))
    out.data_ref(LOAD_RAX, tcdata.BUDGET)
    out.code += b"\x48\xf7\xd0"  # not rax: -BUDGET - 1
    for scaling in out.tsc.scale:
        out.code += scaling
    out.data_ref(b"\x48\x8b\x15", tcdata.TSC_BASE)
    out.code += b"\x48\x8d\x84\x10" + I32.pack(correction)  # lea rax, [rax + rdx + correction]
    out.data_ref(STORE_RAX, tcdata.SPILL_ANY)
    out.data_ref(b"\x8b\x15", tcdata.SPILL_ANY + 4)
    out.code += b"\x89\xc0"


def _pending_check(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
    """Behind an instruction that may have set IF: leave if an interrupt waits."""
    after, retired = guest + len(raw), number + 1
    out.mark(after, retired)
    out.data_ref(STORE_RCX, tcdata.SPILL_RCX)
    out.mark(after, retired, units.FIX_RCX)
    out.data_ref(b"\x0f\xb6\x0d", tcdata.PENDING)
    out.code += b"\xe3\x0c"
    out.data_ref(LOAD_RCX, tcdata.SPILL_RCX)
    out.mark(after, retired)
    site = out.exit_site(units.PENDING, instruction, raw, guest, retired)
    out.jump_to_stub(b"\xe9", site)
    out.mark(after, retired, units.FIX_RCX)
    out.data_ref(LOAD_RCX, tcdata.SPILL_RCX)
