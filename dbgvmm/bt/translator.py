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

from collections.abc import Callable

from iced_x86 import Decoder, DecoderError, Instruction, InstructionInfoFactory, Mnemonic, OpKind

from dbgvmm.bt import classify as cls
from dbgvmm.bt import emit_branches as branches
from dbgvmm.bt import emit_sensitive as sensitive
from dbgvmm.bt import tcdata, units
from dbgvmm.bt.classify import Classifier
from dbgvmm.bt.emission import EXIT, I32, Emission, TscScale
from dbgvmm.bt.emit_operands import emit_wide_exchange, rip_relative, setcc
from dbgvmm.bt.stores import PLAIN_STORES
from dbgvmm.bt.units import Mark, Site, TranslationUnit
from dbgvmm.hardware.layout import MASK64

MAX_UNIT: int = 32
"""Instructions in a unit, at most."""
MAX_ROUNDS: int = 6
UNROLLED: int = 72
"""Rounds of an unrolled loop, and instructions in one, at most."""
MAX_SIDE_EXITS: int = 3
"""Forward conditional branches that a unit goes on behind."""
_MEMORY = OpKind.MEMORY
_SETCC = frozenset(
    getattr(Mnemonic, name) for name in "SETO SETNO SETB SETAE SETE SETNE SETBE SETA SETS SETNS SETP SETNP SETL SETGE SETLE "
    "SETG".split()
)
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
_CALLOUTS_WHEN_PRECISE = frozenset((cls.POPF, cls.RDTSC))


class Translator:
    """Makes units. It knows nothing of the cache but where the unit will be placed."""

    def __init__(self) -> None:
        self.classifier = Classifier()
        self._info = InstructionInfoFactory()
        self.instructions = 0
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
        indirect: bool = False,
        breakpoints: frozenset[int] | set[int] = frozenset(),
        find: Callable[[int], TranslationUnit | None] | None = None,
    ) -> tuple[bytes, list[Site]]:
        """Translate `data` (guest bytes from the unit's guest_rip to the end of what may be read) for TC address `at`.

        Returns the TC bytes and the exit sites, and fills in the unit. `precise` units stop after exactly `limit`
        instructions and chain to nothing. The unit's length is 0 if the first instruction does not fit into `data`.
        """
        emission = Emission(unit, at, precise, find, self.tsc, self._info)
        decoded = self._decode(unit, data, limit, breakpoints, precise)
        unit.length = len(decoded)
        if not decoded:
            return b"", []
        self.instructions += len(decoded)
        if limit == MAX_UNIT and not precise:
            decoded = decoded * self._rounds(unit, decoded)
            unit.length = len(decoded)
        if indirect:
            emission.indirect_prefix()
        self._body(emission, decoded, data)
        return emission.finish()

    @staticmethod
    def _rounds(unit: TranslationUnit, decoded: list[tuple[Instruction, int]]) -> int:
        """How often to unroll: a unit that branches back to its own start is a loop, and pays for its count once."""
        last, kind = decoded[-1]
        if kind not in (cls.JCC, cls.JMP) or last.near_branch_target != unit.guest_rip:
            return 1
        return max(1, min(MAX_ROUNDS, UNROLLED // len(decoded)))

    def thunk(self, unit: TranslationUnit, at: int, entry: int) -> bytes:
        """The indirect entry of a unit that was made without one: reload RAX and RCX, jump to it."""
        emission = Emission(unit, at, False, None, self.tsc, self._info)
        emission.indirect_prefix()
        emission.mark(0, 0)
        emission.code += b"\xe9" + I32.pack(entry - at - len(emission.code) - 5)
        return emission.finish()[0]

    def _decode(
        self, unit: TranslationUnit, data: bytes, limit: int, breakpoints: frozenset[int] | set[int], precise: bool
    ) -> list[tuple[Instruction, int]]:
        classes, learn = self.classifier.classes, self.classifier.learn
        decoded: list[tuple[Instruction, int]] = []
        start = unit.guest_rip
        branches = 0
        decoder = Decoder(64, data, ip=start)
        for instruction in decoder:
            code = instruction.code
            kind = classes.get(code)
            if kind is None:
                kind = learn(instruction)
            if breakpoints and decoded and instruction.ip in breakpoints:
                break
            if kind == cls.INVALID:
                if decoder.last_error == DecoderError.NO_MORE_BYTES:
                    break  # it crosses the page: a unit of its own
                decoded.append((instruction, cls.INVALID))
                break
            decoded.append((instruction, kind))
            if kind == cls.JCC and not precise and len(decoded) < limit and branches < MAX_SIDE_EXITS:
                target = instruction.near_branch_target
                if target > instruction.ip and target & ~0xFFF == start & ~0xFFF:
                    branches += 1  # a forward branch: its fall-through is the likelier way
                    continue
            if kind != cls.IDENT and (kind not in cls.STRAIGHT or precise and kind in _CALLOUTS_WHEN_PRECISE):
                break
            if len(decoded) >= limit:
                break
        return decoded

    def _count_index(self, decoded: list[tuple[Instruction, int]]) -> int:
        """The first instruction in front of which the flags are dead, or -1.

        It must come before any way out: a chain of exits that nothing checks could pass the deadline.
        """
        kills = self.classifier.kills_flags
        for index, (instruction, kind) in enumerate(decoded[: tcdata.MARGIN]):
            if kind == cls.JCC:
                return -1
            if (
                kind == cls.IDENT
                and kills[instruction.code]
                and instruction.op0_kind != _MEMORY
                and instruction.op1_kind != _MEMORY
            ):
                return index
        return -1

    def _body(self, out: Emission, decoded: list[tuple[Instruction, int]], data: bytes) -> None:
        unit = out.unit
        index = -1 if out.precise else self._count_index(decoded)
        flags_dead = index >= 0
        if not flags_dead:
            index = 0
        unit.count_index = index
        if out.precise:
            # The monitor counts these: they run once or rarely, and always to their end or to a fault.
            unit.count_index = unit.resume_at = 1 << 64
            index = -1
        start = unit.guest_rip
        code = out.code
        guest = 0
        kind = cls.IDENT
        marks = out.marks
        guilty = unit.page.guilty if not out.precise else None
        first = decoded[0]
        for number, item in enumerate(decoded):
            instruction, kind = item
            if item is first:
                guest = 0  # the next round of an unrolled loop
            if number == index:
                out.mark(guest, number)
                out.count(number, flags_dead)
            length = instruction.len
            marks.append(Mark(len(code), guest, number, 0))
            if guilty and (start + guest & 0xFFF) in guilty and instruction.code in PLAIN_STORES:
                code += EXIT
                site = out.exit_site(units.STORE, instruction, data[guest : guest + length], guest, number)
                out.stubs.append((-len(code), site))
            elif kind == cls.IDENT:
                if instruction.mnemonic in _SETCC and instruction.op0_kind == _MEMORY and setcc(
                    out, instruction, data[guest : guest + length], guest, number
                ):
                    pass
                elif instruction.is_ip_rel_memory_operand:
                    rip_relative(out, instruction, data[guest : guest + length], guest, number)
                else:
                    code += data[guest : guest + length]
            else:
                _EMITTERS[kind](out, instruction, data[guest : guest + length], guest, number)
            guest += length
        unit.guest_bytes = data[:guest]
        if kind in cls.STRAIGHT and not (out.precise and kind in _CALLOUTS_WHEN_PRECISE):
            marks.append(Mark(len(code), guest, unit.length, 0))
            out.edge(b"\xe9", start + guest & MASK64, unit.length)
