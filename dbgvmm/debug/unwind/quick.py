"""Return addresses at a profiler's pace: a rule is worked out once for each place, and then applied by a few additions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from dbgvmm.cpu.bits import GPR
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.symbols.known import Symbols
from dbgvmm.debug.unwind.frame_pointer import LONGEST_FRAME, STANDARD
from dbgvmm.debug.unwind.frames import DwarfRegister, Registers, StackFrame
from dbgvmm.debug.unwind.methods import SELECTOR_RPL, Base, Rule, UnwindEnd, UnwindMethod
from dbgvmm.debug.unwind.stack import StackMemory, Unreadable
from dbgvmm.mmu.linear import GuestMemory

MOST_RULES: Final = 1 << 16
"""Places; when there are more, all are forgotten and learnt again."""
_KERNEL_HALF: Final = 1 << 63
_USER_CPL: Final = 3
_RSP, _RBP = int(GPR.RSP), int(GPR.RBP)
_SP, _BP, _IRET, _OUTERMOST = int(Base.SP), int(Base.BP), int(Base.IRET), int(Base.OUTERMOST)

_Known = tuple[int, int, int | None, bool]
"""A rule: base, offset, bp_offset, and whether RBP has to be a plausible frame pointer."""
_COMPLEX: Final[_Known] = int(Base.COMPLEX), 0, None, False


class _Slow(Protocol):
    """What finds frames properly."""

    methods: list[UnwindMethod]

    def frames(self, limit: int = 64) -> Sequence[StackFrame]: ...

    def caller(self, registers: Registers, stack: StackMemory | None = None) -> tuple[Registers, str]: ...

    def innermost(self) -> Registers: ...

    def described(self, frame: Registers, stack: StackMemory) -> bool: ...


class QuickUnwinder:
    """Applies known rules. Rules of the kernel's half are everybody's; those of the lower half one address space's."""

    def __init__(self, cpu: VCpu, memory: GuestMemory, words: memoryview, symbols: Symbols, slow: _Slow) -> None:
        self._cpu = cpu
        self._memory = memory
        self._symbols = symbols
        self._slow = slow
        self._stack = StackMemory(memory, words)
        # By pc, inverted where the instruction there has not begun: it may have rules of its own.
        self._kernel: dict[int, _Known] = {}
        self._user: dict[int, _Known] = {}
        self._cr3 = -1
        self._generation = -1
        self._version = -1

    def forget(self) -> None:
        """Methods or symbols are others: learn anew."""
        self._kernel.clear()
        self._user.clear()

    def addresses(self, limit: int) -> tuple[int, ...]:
        """The pc and up to `limit` - 1 return addresses."""
        cpu = self._cpu
        generation = self._memory.generation
        if self._generation != generation or self._cr3 != cpu.cr3:
            self._renew(generation)
        if self._version != self._symbols.version:
            self._version = self._symbols.version
            self.forget()
        gpr = cpu.gpr
        pc, sp, bp = cpu.rip, gpr[_RSP], gpr[_RBP]
        if not cpu.in_64bit_code:
            return (pc,)
        exact = True
        user = cpu.cpl == _USER_CPL
        found = [pc]
        interrupted: set[tuple[int, int]] = set()
        kernel, lower, stack = self._kernel, self._user, self._stack
        words, pages = stack.words, stack.pages
        left = limit
        try:
            while left > 1:
                left -= 1
                rules = kernel if pc >= _KERNEL_HALF else lower
                known = rules.get(~pc if exact else pc)
                if known is None:
                    known = self._learn(rules, pc, sp, bp, exact, user, left == limit - 1)
                base, offset, bp_offset, checked = known
                if base == _SP:
                    at = sp + offset
                elif base == _BP:
                    if checked and (bp & 7 or not sp <= bp < sp + LONGEST_FRAME):
                        break
                    at = bp + offset
                elif base == _IRET:
                    at = sp + offset
                    pc, user, exact = stack.word(at), stack.word(at + 8) & SELECTOR_RPL == SELECTOR_RPL, True
                    if bp_offset is not None:
                        bp = stack.word(at + bp_offset)
                    sp = stack.word(at + 24)
                    if not pc or (pc, sp) in interrupted:
                        break
                    interrupted.add((pc, sp))
                    found.append(pc)
                    continue
                elif base == _OUTERMOST:
                    break
                else:
                    caller = self._complex(pc, sp, bp, exact, user)
                    if caller is None:
                        return tuple(frame.pc for frame in self._slow.frames(limit))
                    pc, sp, bp, exact, user = caller.pc, caller.sp, caller.bp or 0, caller.exact, caller.user
                    if (pc, sp) in interrupted:
                        break
                    interrupted.add((pc, sp))
                    found.append(pc)
                    continue
                if at <= sp or at & 7:
                    break
                slot = at - 8
                number = slot >> 12
                start = pages.get(number)
                if start is None:
                    start = stack.page(number)
                pc = words[start + (slot >> 3 & 511)]
                if not pc:
                    break
                if bp_offset is not None:
                    slot = at + bp_offset
                    if slot >> 12 != number:
                        start = stack.page(slot >> 12)
                    bp = words[start + (slot >> 3 & 511)]
                sp = at
                exact = False
                found.append(pc)
        except Unreadable:
            pass  # the stack ends here: what was found is what there is
        return tuple(found)

    def _renew(self, generation: int) -> None:
        self._generation = generation
        self._stack.forget()
        if self._cr3 != self._cpu.cr3:
            self._cr3 = self._cpu.cr3
            self._user.clear()

    def _registers(self, pc: int, sp: int, bp: int, exact: bool, user: bool, innermost: bool) -> Registers:
        if innermost:
            return self._slow.innermost()
        values: Mapping[int, int] = {DwarfRegister.RSP: sp, DwarfRegister.RBP: bp}
        return Registers(pc, values, exact, user)

    def _learn(
        self, rules: dict[int, _Known], pc: int, sp: int, bp: int, exact: bool, user: bool, innermost: bool
    ) -> _Known:
        registers = self._registers(pc, sp, bp, exact, user, innermost)
        known = _COMPLEX
        if not self._stack.executable(pc) and not self._slow.described(registers, self._stack):
            known = int(Base.OUTERMOST), 0, None, False
        else:
            for method in self._slow.methods:
                try:
                    rule = method.rule(registers, self._stack)
                except UnwindEnd:
                    rule = Rule(Base.OUTERMOST)
                if rule is not None:
                    known = int(rule.base), rule.offset, rule.bp_offset, rule is STANDARD
                    break
        if len(rules) >= MOST_RULES:
            rules.clear()
        rules[~pc if exact else pc] = known
        return known

    def _complex(self, pc: int, sp: int, bp: int, exact: bool, user: bool) -> Registers | None:
        """The caller at a place without a simple rule; None if RSP and RBP are not enough to know it."""
        try:
            return self._slow.caller(self._registers(pc, sp, bp, exact, user, False), self._stack)[0]
        except UnwindEnd:
            return None
