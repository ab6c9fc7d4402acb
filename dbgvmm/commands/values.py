"""Values: `print`, `set`, the history (`$1`) and convenience variables (`$x`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import assign, evaluate_typed
from dbgvmm.commands.parameters import ExpressionText, Format
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import MASK64
from dbgvmm.debug.expressions import IntType, Type

_ASSIGNMENT: Final = re.compile(r"(?<![=!<>])=(?!=)")
_KEYWORD: Final = re.compile(r"(?:var|variable)\s+")
_FORMATS: Final = "xduotcaz"


@dataclass(frozen=True)
class TypedValue:
    """A value: its name, the bits as an unsigned number, its type, and the name of the address that it may be.

    text: in the form that was asked for, "" for all that says something. name: "" for one that has none, as in QEMU.
    """

    name: str
    value: int
    type: str
    signed: int
    symbol: str
    text: str = ""

    def __str__(self) -> str:
        symbol = f" <{self.symbol}>" if self.symbol else ""
        name = f"{self.name} = " if self.name else ""
        return f"{name}{self.text or f'{self.value:#x} ({self.signed}){symbol}'}"


@dataclass(frozen=True)
class TypedValues:
    """Several of them."""

    lines: tuple[TypedValue, ...]
    title: str

    def __str__(self) -> str:
        rows = [
            (line.name, f"{line.value:#x}", str(line.signed), f"<{line.symbol}>" if line.symbol else "")
            for line in self.lines
        ]
        return columns(rows) if rows else f"no {self.title}"


def typed_value(session: Session, name: str, value: int, type: Type, fmt: str = "") -> TypedValue:
    """A value as it is shown. Raises CommandError for a format that there is not."""
    bits = type.bits if isinstance(type, IntType) else 64
    raw = value & (1 << bits) - 1
    as_signed = isinstance(type, IntType) and (type.signed or bits == 64)
    signed = raw - (1 << bits) if as_signed and raw >> bits - 1 else raw
    symbol = "" if raw > MASK64 else session.symbols.describe(raw)
    text = formatted(fmt, raw, bits, symbol) if fmt else ""
    return TypedValue(name, raw, str(type), signed, symbol, text)


def formatted(fmt: str, value: int, bits: int, symbol: str) -> str:
    """`bits` bits in one of print's formats. Raises CommandError."""
    match fmt:
        case "x" | "o":
            return f"{value:#{fmt}}"
        case "z":
            return f"0x{value:0{bits // 4}x}"
        case "t":
            return f"{value:b}"
        case "d":
            return str(value - (1 << bits) if value >> bits - 1 else value)
        case "u":
            return str(value)
        case "c":
            return repr(chr(value & 0xFF))
        case "a":
            return f"{value:#x} <{symbol}>" if symbol else f"{value:#x}"
        case _:
            raise CommandError(f"{fmt!r} is no format for a number: use one of {', '.join(_FORMATS)}; `x` shows memory")


@command("print", aliases=("p", "inspect"))
def print_(session: Session, fmt: Format, expression: ExpressionText) -> TypedValue:
    """Show the value of EXPRESSION: hexadecimal, decimal, and the symbol that it is in.

    print/x, /d, /u, /o, /t, /c, /z, /a show it in that form alone. Numbers are decimal, 0x hexadecimal, 0b binary, 'c' a
    character. Registers and their parts ($rax, $eax, $al; $count is the instruction count, $cpl the privilege), symbols
    (their address), memory (`*A` eight bytes; `u32[A]`, `*(int *)A`, `{u16}A`; `p[2]`), casts `(i8)`, and C's operators.
    `$` is the last value, `$1` the first, `$x` what `set $x = ...` has set. Values are unsigned 64-bit numbers unless cast.
    Wherever a command takes a number or an address, it takes an expression; blanks may be in it if it comes last.

    For example:

        print $rsp + 8
        p/x *(u32 *)($rsp + 8) & 0xff
        p (i64)$rax < 0 || $cpl == 3
    """
    value, type = evaluate_typed(session, expression)
    if session.as_qemu and fmt:
        return typed_value(session, "", value, type, fmt)
    shown = typed_value(session, "", value, type, fmt)
    number = session.values.remember(value, type)
    return TypedValue(f"${number}", shown.value, shown.type, shown.signed, shown.symbol, shown.text)


@command("set")
def set_(session: Session, assignment: ExpressionText) -> TypedValue:
    """Set a register, a part of one, memory or a variable: `set WHAT = EXPRESSION`.

    Memory has a type: `{u32}A`, `u32[A]`, `*(int *)A`. Code that changes is translated anew. What the CPU would refuse with
    #GP is refused here too. `set REGISTER VALUE` does without the `=`. (Settings are commands of their own: `help set`.)

    For example:

        set $rax = 0x10
        set {u32}$rsp = $al + 1
        set $x = *($rsp + 8)
        set rax 0x10
    """
    text = _KEYWORD.sub("", assignment, count=1)
    sign = _ASSIGNMENT.search(text)
    if sign is not None:
        left, right = text[: sign.start()].strip(), text[sign.end() :].strip()
    else:
        left, _, right = text.partition(" ")
    if not left or not right:
        raise CommandError(f"`set {assignment}`: write set WHAT = EXPRESSION, as in set $rax = 1")
    name, value, type = assign(session, left, right)
    return typed_value(session, name, value, type)


@command("show values", aliases=("info history",))
def show_values(session: Session) -> TypedValues:
    """List what has been printed: `$1`, `$2` and so on.

    For example:

        show values
    """
    history = session.values.history
    lines = (typed_value(session, f"${number}", value, type) for number, (value, type) in enumerate(history, 1))
    return TypedValues(tuple(lines), "values: nothing has been printed yet")


@command("show convenience", aliases=("show conv",))
def show_convenience(session: Session) -> TypedValues:
    """List the variables that `set $x = ...` has made.

    For example:

        show convenience
    """
    variables = session.values.variables
    lines = (typed_value(session, f"${name}", value, type) for name, (value, type) in variables.items())
    return TypedValues(tuple(lines), "variables: `set $x = 1` makes one")

