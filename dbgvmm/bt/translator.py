"""From guest bytes to translated bytes: one unit at a time.

Rules that every sequence here keeps:

* guest registers and flags are in the hardware's own; what we need in between is spilled to the data page and the
  `Mark` of each TC instruction says how to put it back;
* guest flags are live across everything that we insert: `lea`, `mov`, `jrcxz` leave them alone, and a plain `sub` is
  used only in front of an instruction that overwrites all of them and cannot fault;
* a unit never leaves its TC page, and a guest instruction that crosses its page has a unit of its own.

The count: each unit subtracts its length from the budget once, at the first place where flags are dead, and leaves
(SLICE) if the budget is used up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from iced_x86 import Instruction, InstructionInfoFactory

from dbgvmm.bt import classify as cls
from dbgvmm.bt import emit_branches as branches
from dbgvmm.bt import emit_sensitive as sensitive
from dbgvmm.bt.counting import UnitCounting
from dbgvmm.bt.emission import Emission, TscScale
from dbgvmm.bt.emit_operands import emit_wide_exchange, rip_relative, setcc, touch_before_rotate
from dbgvmm.bt.forming import CLASS, COUNT, MAX_UNIT, PLAIN_STORE, RIP_RELATIVE, ROTATE, SETCC, Formed, Former
from dbgvmm.bt.guards import Guard, emit_guarded, end_guarded
from dbgvmm.bt.probes import Probe, emit_probe
from dbgvmm.bt.stores import StoreSite
from dbgvmm.bt.units import RUN, Site, TranslationUnit
from dbgvmm.hardware.layout import MASK64

_EMITTERS = {
    cls.JCC: branches.emit_jcc,
    cls.JMP: branches.emit_jmp,
    cls.CALL: branches.emit_call,
    cls.RET: branches.emit_ret,
    cls.INDIRECT_JMP: branches.emit_indirect_jmp,
    cls.INDIRECT_CALL: branches.emit_indirect_call,
    cls.LOOP: branches.emit_loop,
    cls.CALLOUT: sensitive.emit_callout,
    cls.INVALID: sensitive.emit_callout,
    cls.POPF: sensitive.emit_popf,
    cls.STI: sensitive.emit_sti,
    cls.PUSHF: sensitive.emit_pushf,
    cls.PAUSE: sensitive.emit_pause,
    cls.RDTSC: sensitive.emit_rdtsc,
    cls.IRETQ: sensitive.emit_iretq,
    cls.WIDE_EXCHANGE: emit_wide_exchange,
}

NO_GUARDS: Final[Mapping[int, Guard]] = {}
NO_PROBES: Final[Mapping[int, Probe]] = {}


class Translator:
    """Makes units. It knows nothing of the cache but where the unit will be placed."""

    def __init__(self) -> None:
        self.former = Former()
        self._info = InstructionInfoFactory()
        self.instructions = 0
        self.counting: UnitCounting | None = None
        """Units count their passes for it."""
        self.tsc = TscScale(0)

    def set_ticks(self, ticks: int) -> None:
        """TSC ticks per instruction; 0: rdtsc is a callout."""
        self.tsc = TscScale(ticks)

    def translate(
        self,
        unit: TranslationUnit,
        data: bytes,
        at: int,
        *,
        limit: int = MAX_UNIT,
        precise: bool = False,
        breakpoints: Collection[int] = (),
        probes: Mapping[int, Probe] = NO_PROBES,
    ) -> tuple[bytearray, list[Site]]:
        """Translate `data` (guest bytes from the unit's guest_rip to the end of what may be read) for TC address `at`.

        Returns the TC bytes and the exit sites, and fills in the unit, whose edges lead to units of the same code page
        where there are some. `precise` units stop after exactly `limit` instructions and chain to nothing. The unit's
        length is 0 if the first instruction does not fit into `data`. probes: by guest address (not for precise units).
        """
        page = unit.page
        guilty = bool(page.guilty) and not precise
        attended: Collection[int] = probes
        if page.guards and not precise:
            attended = {*probes, *(page.va | offset for offset in page.guards)}
        formed = self.former.form(unit.guest_rip, data, limit, precise, breakpoints, guilty, attended)
        length = formed.length
        unit.length = length * formed.rounds
        if not length:
            return bytearray(), []
        self.instructions += length
        out = Emission(unit, at, precise, not precise, self.tsc, self._info)
        if self.counting is not None and not precise:
            out.counters = self.counting.place(page.user) - at
        self._body(out, formed, data, probes)
        if self.counting is not None:
            self.counting.first_exit = out.first_exit
        return out.finish()

    @staticmethod
    def _body(out: Emission, formed: Formed, data: bytes, probes: Mapping[int, Probe]) -> None:
        unit = out.unit
        if out.precise:
            # The monitor counts these: they run once or rarely, and always to their end or to a fault.
            unit.count_index = unit.resume_at = 1 << 64
        else:
            unit.count_index = formed.count_index
        code = out.code
        offsets, states = out.mark_offsets, out.mark_states
        guilty = unit.page.guilty
        guards = NO_GUARDS if out.precise else unit.page.guards
        page_offset = unit.guest_rip & 0xFFF
        size = formed.size
        for base in range(0, unit.length, formed.length):
            copied, following = 0, base
            for number, guest, instruction, traits in formed.specials:
                number += base
                at = len(code)
                if copied < guest:
                    offsets.append(at)
                    states.append(copied << 16 | following << 8 | RUN)
                    code += data[copied:guest]
                    at += guest - copied
                    copied = guest
                if traits == COUNT:
                    if not base:
                        offsets.append(at)
                        states.append(guest << 16 | number << 8)
                        out.count(number, formed.flags_dead)
                    following = number
                    continue
                if probes and unit.guest_rip + guest in probes:
                    emit_probe(out, probes[unit.guest_rip + guest], guest, number)
                    at = len(code)
                offsets.append(at)
                states.append(guest << 16 | number << 8)
                copied = guest + instruction.len
                following = number + 1
                raw = data[guest:copied]
                kind = traits & CLASS
                guard = guards.get(page_offset + guest) if guards and not traits & SETCC else None
                behind = emit_guarded(out, guard, instruction, raw, guest, number, kind) if guard is not None else 0
                if behind:
                    if kind == cls.CALL:
                        branches.push_return(out, unit.guest_rip + copied & MASK64)
                        end_guarded(out, behind)
                        out.edge(b"\xe9", instruction.near_branch_target, number + 1)
                        continue
                    Translator._copied(out, instruction, raw, guest, number, traits)
                    end_guarded(out, behind)
                elif kind:
                    _EMITTERS[kind](out, instruction, raw, guest, number)
                elif traits & PLAIN_STORE and page_offset + guest in guilty:
                    out.exit(StoreSite(unit, unit.guest_rip + guest & MASK64, instruction, number))
                elif traits & SETCC and setcc(out, instruction, raw, guest, number):
                    pass
                else:
                    Translator._copied(out, instruction, raw, guest, number, traits)
            if copied < size:
                offsets.append(len(code))
                states.append(copied << 16 | following << 8 | RUN)
                code += data[copied:size]
        unit.guest_bytes = data[:size]
        if formed.open_end:
            out.mark(size, unit.length)
            out.edge(b"\xe9", unit.guest_rip + size & MASK64, unit.length)

    @staticmethod
    def _copied(out: Emission, instruction: Instruction, raw: bytes, guest: int, number: int, traits: int) -> None:
        """An instruction that is copied, its operand made absolute if it was relative to RIP."""
        if traits & ROTATE:
            touch_before_rotate(out, instruction, raw, guest, number)
        if traits & RIP_RELATIVE:
            rip_relative(out, instruction, raw, guest, number)
        else:
            out.code += raw
