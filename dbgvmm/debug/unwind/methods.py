"""How a caller is found: the protocol of a method, and the simple rules that most places have.

Most places in code have a rule that is the same each time: "the return address is at RSP+40, RBP's old value at RSP+32".
A method that gives such a rule is asked once for each place; a sampling profiler then needs no method at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import NamedTuple, Protocol

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.unwind.frames import CALLEE_SAVED, DwarfRegister, Registers
from dbgvmm.debug.unwind.stack import StackMemory

SELECTOR_RPL = 3
"""A selector's requested privilege level; in a saved CS, the CPL (Intel SDM vol. 3A, 3.4.2)."""

BY_TABLES = ("cfi", "ORC")
"""Methods that have been told of each instruction by who made the code: what they know is so, and they know only code."""


class UnwindEnd(Exception):
    """There is no caller, or none that can be found. The message says why; outermost: because nothing called this."""

    def __init__(self, text: str, *, outermost: bool = False) -> None:
        super().__init__(text)
        self.outermost = outermost


class Base(IntEnum):
    """What a rule's offset is counted from, and what lies there.

    SP, BP: from RSP or RBP to the CFA, the value of RSP in the caller; the return address is in the eight bytes below it.
    IRET: from RSP to a frame that an interrupt or exception has pushed: RIP, CS, RFLAGS, RSP, SS. OUTERMOST: nothing
    called this. COMPLEX: no such rule; the method's `caller` works it out each time.
    """

    SP = 0
    BP = 1
    IRET = 2
    OUTERMOST = 3
    COMPLEX = 4


class Rule(NamedTuple):
    """Where the caller's registers are. Offsets are in bytes.

    bp_offset: where the caller's RBP is, from the CFA (from the saved RIP for IRET); None: RBP was not touched.
    """

    base: Base
    offset: int = 0
    bp_offset: int | None = None


class UnwindMethod(Protocol):
    """One way to find callers. To be registered with `Unwinder.add`.

    name: as people see it, "cfi" or "frame pointer".
    """

    @property
    def name(self) -> str: ...

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        """The rule that holds whenever code stands at `frame.pc`; None if the method knows nothing of the place.

        It may look at memory, but what it says has to hold at this pc (and `exact`) for ever.
        """

    def caller(self, frame: Registers, stack: StackMemory) -> Registers | None:
        """The caller's registers; None if the method knows nothing of the place. Raises UnwindEnd, Unreadable."""


class RuleMethod(ABC):
    """A base for methods whose rules say everything: `caller` follows from `rule`."""

    @abstractmethod
    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        """See UnwindMethod."""

    def caller(self, frame: Registers, stack: StackMemory) -> Registers | None:
        """See UnwindMethod."""
        rule = self.rule(frame, stack)
        return None if rule is None else apply_rule(rule, frame, stack)


def apply_rule(rule: Rule, frame: Registers, stack: StackMemory) -> Registers:
    """The caller's registers as a rule says. Raises UnwindEnd, Unreadable."""
    values = {number: value for number, value in frame.values.items() if number in CALLEE_SAVED}
    if rule.base is Base.OUTERMOST:
        raise UnwindEnd("the outermost frame", outermost=True)
    if rule.base is Base.IRET:
        at = frame.sp + rule.offset & MASK64
        pc = stack.word(at)
        user = stack.word(at + 8) & SELECTOR_RPL == SELECTOR_RPL
        values[DwarfRegister.RSP] = stack.word(at + 24)
        if rule.bp_offset is not None:
            values[DwarfRegister.RBP] = stack.word(at + rule.bp_offset)
        return Registers(pc, values, True, user)
    base = frame.bp if rule.base is Base.BP else frame.sp
    if base is None:
        raise UnwindEnd("the frame pointer is not known here")
    cfa = base + rule.offset & MASK64
    pc = stack.word(cfa - 8)
    values[DwarfRegister.RSP] = cfa
    if rule.bp_offset is not None:
        values[DwarfRegister.RBP] = stack.word(cfa + rule.bp_offset)
    return Registers(pc, values, False, frame.user)
