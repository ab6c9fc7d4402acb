"""Callers by DWARF call frame information, wherever a source of symbols has it: exact at every instruction."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.symbols.call_frames import CallFrames, Expression, FrameRow
from dbgvmm.debug.symbols.known import Symbols
from dbgvmm.debug.symbols.table import SymbolError
from dbgvmm.debug.unwind.expressions import evaluate
from dbgvmm.debug.unwind.frames import CALLEE_SAVED, DwarfRegister, Registers
from dbgvmm.debug.unwind.methods import SELECTOR_RPL, Base, Rule, UnwindEnd
from dbgvmm.debug.unwind.stack import StackMemory

_RETURN_ADDRESS: Final = ("OFFSET", -8)
_CS_BEHIND_RIP, _RSP_BEHIND_RIP = 8, 24


@runtime_checkable
class HasCallFrames(Protocol):
    """A source of symbols that may have call frame information."""

    @property
    def call_frames(self) -> CallFrames | None:
        """None without any. Damaged information is None too: the source itself says so."""


class CfiMethod:
    """Implements `UnwindMethod`."""

    name = "cfi"

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols

    def _row(self, place: int) -> FrameRow | None:
        for source in self._symbols.covering(place):
            frames = source.call_frames if isinstance(source, HasCallFrames) else None
            try:
                row = frames.row(place) if frames is not None else None
            except SymbolError:
                continue  # this entry is damaged: another source or method may know
            if row is not None:
                return row
        return None

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        """See UnwindMethod."""
        row = self._row(frame.place)
        return None if row is None else _simple(row)

    def caller(self, frame: Registers, stack: StackMemory) -> Registers | None:
        """See UnwindMethod."""
        row = self._row(frame.place)
        if row is None:
            return None
        kind, where = row.rules.get(row.return_register, ("UNDEFINED", None))
        if kind == "UNDEFINED":
            raise UnwindEnd("the outermost frame, says the call frame information", outermost=True)
        cfa = _cfa(row, frame, stack)
        values = {
            number: value for number, value in frame.values.items() if row.signal or number in CALLEE_SAVED
        }
        values[DwarfRegister.RSP] = cfa
        for number, rule in row.rules.items():
            value = _value(rule, number, cfa, frame, stack)
            if value is None:
                values.pop(number, None)
            else:
                values[number] = value
        pc = values.pop(row.return_register, None)
        if pc is None:
            raise UnwindEnd("the call frame information does not say where the return address is")
        user = frame.user
        if row.signal and row.rules.get(DwarfRegister.RSP) == ("OFFSET", _plus(where, _RSP_BEHIND_RIP)):
            # RIP and RSP lie as an interrupt has pushed them: CS is between.
            saved_cs = stack.word(cfa + _plus(where, _CS_BEHIND_RIP))
            user = saved_cs & SELECTOR_RPL == SELECTOR_RPL
        return Registers(pc, values, row.signal, user)


def _plus(where: int | Expression | None, offset: int) -> int:
    return where + offset if isinstance(where, int) else 0


def _cfa(row: FrameRow, frame: Registers, stack: StackMemory) -> int:
    if isinstance(row.cfa, Expression):
        return evaluate(row.cfa, frame, stack)
    register, offset = row.cfa
    base = frame.values.get(register)
    if base is None:
        raise UnwindEnd(f"DWARF register {register}, from which the frame is found, is not known here")
    return base + offset & MASK64


def _value(
    rule: tuple[str, int | Expression | None], number: int, cfa: int, frame: Registers, stack: StackMemory
) -> int | None:
    """A register's value in the caller; None if it cannot be known."""
    kind, argument = rule
    if isinstance(argument, Expression):
        value = evaluate(argument, frame, stack, (cfa,))
        return stack.word(value) if kind == "EXPRESSION" else value
    if kind == "SAME_VALUE":
        return frame.values.get(number)
    if argument is None:
        return None
    if kind == "OFFSET":
        return stack.word(cfa + argument)
    if kind == "VAL_OFFSET":
        return cfa + argument & MASK64
    return frame.values.get(argument) if kind == "REGISTER" else None


def _simple(row: FrameRow) -> Rule:
    """The rule that says the same as a row, if there is one."""
    complex_ = Rule(Base.COMPLEX)
    if row.rules.get(row.return_register, ("UNDEFINED", None))[0] == "UNDEFINED":
        return Rule(Base.OUTERMOST)
    if row.signal or isinstance(row.cfa, Expression) or DwarfRegister.RSP in row.rules:
        return complex_
    register, offset = row.cfa
    kind, where = row.rules.get(DwarfRegister.RBP, ("SAME_VALUE", None))
    if row.rules[row.return_register] != _RETURN_ADDRESS or register not in (DwarfRegister.RSP, DwarfRegister.RBP):
        return complex_
    base = Base.SP if register == DwarfRegister.RSP else Base.BP
    if kind == "OFFSET" and isinstance(where, int) and not where & 7:
        return Rule(base, offset, where)
    return Rule(base, offset) if kind in ("SAME_VALUE", "UNDEFINED") else complex_
