"""`set`: storing to a register, a part of one, memory or a convenience variable."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.expressions.evaluation import evaluate
from dbgvmm.debug.expressions.names import Names, check_variable
from dbgvmm.debug.expressions.parser import parse
from dbgvmm.debug.expressions.tokens import ExpressionError
from dbgvmm.debug.expressions.tree import Memory, Register
from dbgvmm.debug.expressions.types import Type
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.registers import read_register, write_register
from dbgvmm.mmu.linear import NotMapped

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_NEW_VARIABLE: Final = re.compile(r"\$([A-Za-z_]\w*)")


def assign(machine: Machine, names: Names, left: str, right: str) -> tuple[str, int, Type]:
    """Store the value of `right` to what `left` names: (what it is, the value there now, its type).

    Memory is written as a debugger does: read-only pages too, and translations of code that changes are thrown away.
    Raises ExpressionError, with nothing changed.
    """
    source = parse(right, names)
    value = evaluate(source, machine, names.values)
    variable = _NEW_VARIABLE.fullmatch(left.strip())
    if variable is not None and names.register(variable[1]) is None:
        check_variable(variable[1])
        names.values.variables[variable[1]] = value, source.type
        return f"${variable[1]}", value, source.type
    target = parse(left, names)
    match target:
        case Register():
            return f"${target.name}", _set_register(machine, target, value), target.type
        case Memory(address=address, type=type):
            at = evaluate(address, machine, names.values) & MASK64
            return f"{{{type}}}{at:#x}", _store(machine, at, type, value), type
        case _:
            raise ExpressionError(
                f"{left.strip()!r} cannot be set: give a register, a $variable, or memory with its type, as {{u32}}$rsp"
            )


def _set_register(machine: Machine, target: Register, value: int) -> int:
    if target.bits < 64:
        _check_fits(value, target.bits, target.name)
        value &= (1 << target.bits) - 1
    if target.shift or target.name != target.row:
        kept = read_register(machine, target.row) & ~((1 << target.bits) - 1 << target.shift)
        if target.bits < 32 or target.shift:
            value = kept | value << target.shift
    try:
        write_register(machine, target.row, value)
    except RegisterError as error:
        raise ExpressionError(str(error)) from error
    return read_register(machine, target.row) >> target.shift & (1 << target.bits) - 1


def _store(machine: Machine, address: int, type: Type, value: int) -> int:
    _check_fits(value, type.size * 8, str(type))
    try:
        machine.memory.poke(address, (value & (1 << type.size * 8) - 1).to_bytes(type.size, "little"))
        return type.wrap(int.from_bytes(machine.memory.peek(address, type.size), "little"))
    except NotMapped as error:
        raise ExpressionError(str(error)) from error


def _check_fits(value: int, bits: int, what: str) -> None:
    """Neither as an unsigned nor as a signed number may a part of the value be lost."""
    signed = value - (1 << 64) if value >> 63 == 1 else value
    if not (0 <= value < 1 << bits or -(1 << bits - 1) <= signed < 0):
        raise ExpressionError(f"{value:#x} does not fit into the {bits} bits of {what}")

