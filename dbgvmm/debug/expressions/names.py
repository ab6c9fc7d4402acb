"""What names in expressions mean: registers and their parts, symbols, convenience variables, the value history."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from dbgvmm.debug.expressions.tokens import ExpressionError
from dbgvmm.debug.expressions.tree import Constant, Fact, Node, Register, Variable
from dbgvmm.debug.expressions.types import U64, Type
from dbgvmm.debug.registers import ENCODING_ORDER, REGISTERS
from dbgvmm.debug.symbols.table import Symbol
from dbgvmm.debug.system_registers import SYSTEM_ROWS

ALIASES: Final = {"pc": "rip", "sp": "rsp", "fp": "rbp", "rflags": "eflags"}
FRAME_REGISTERS: Final = frozenset((*ENCODING_ORDER, "rip"))
"""What each frame of the stack has for itself."""
FACTS: Final = ("count", "cpl")
"""$count: instructions since power-on; $cpl: the privilege level."""
_NONE_LOADED: Final = " (no symbols are loaded: --symbols FILE; Linux' own are known once it has set up its page tables)"
_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*")


def _parts() -> dict[str, tuple[str, int, int]]:
    """Names for parts of the general registers: (register, bits, shift)."""
    parts: dict[str, tuple[str, int, int]] = {}
    for number, name in enumerate(ENCODING_ORDER):
        if number < 8:
            short = name[1:]
            parts |= {f"e{short}": (name, 32, 0), short: (name, 16, 0)}
            if short.endswith("x"):
                parts |= {f"{short[0]}l": (name, 8, 0), f"{short[0]}h": (name, 8, 8)}
            else:
                parts[f"{short}l"] = (name, 8, 0)
        else:
            parts |= {f"{name}d": (name, 32, 0), f"{name}w": (name, 16, 0), f"{name}b": (name, 8, 0)}
    return parts | {"eip": ("rip", 32, 0)}


PARTS: Final = _parts()


class SymbolLookup(Protocol):
    """Where symbols are looked up."""

    def __len__(self) -> int: ...

    def find(self, name: str) -> Symbol | None:
        """The symbol of that name."""

    def lookup(self, text: str) -> int | None:
        """The address of a symbol, or of the first code of a line that is written FILE:LINE."""


@dataclass
class Values:
    """What has been printed (`$1`, `$`, `$$`) and set (`$x`), each with its type."""

    history: list[tuple[int, Type]] = field(default_factory=list)
    variables: dict[str, tuple[int, Type]] = field(default_factory=dict)

    def remember(self, value: int, type: Type) -> int:
        """Put a value into the history; its number."""
        self.history.append((value, type))
        return len(self.history)


class FrameRegisters(Protocol):
    """A frame of the stack that is not the CPU's own."""

    @property
    def level(self) -> int: ...

    @property
    def registers(self) -> Mapping[str, int]:
        """What is known of RIP and the general registers there."""


class Names:
    """Looks names up for the parser. frame: whose general registers are meant; None: the CPU's."""

    def __init__(self, symbols: SymbolLookup, values: Values, frame: FrameRegisters | None = None) -> None:
        self._symbols = symbols
        self.values = values
        self._frame = frame

    def dollar(self, text: str) -> Node:
        """What `$text` is. Raises ExpressionError."""
        if text.strip("$0123456789") == "":
            return self._from_history(text)
        register = self.register(text)
        if register is not None:
            return self._in_frame(register)
        if text in FACTS:
            return Fact(text)
        if text in self.values.variables:
            return Variable(text)
        if self._symbols.find(text) is not None:
            raise ExpressionError(f"'${text}' is no number, register or symbol: a symbol's name is written without $")
        raise ExpressionError(
            f"'${text}' is no number, register or symbol, and no variable yet: `set ${text} = VALUE` makes it one"
        )

    def _from_history(self, text: str) -> Node:
        """`$` and `$$`: the last value and the one before it; `$N`, `$$N`: by number, and counted backwards."""
        history = self.values.history
        if text in ("", "$"):
            number = len(history) - len(text)
        elif text.startswith("$"):
            number = len(history) - int(text[1:])
        else:
            number = int(text)
        if not 0 < number <= len(history):
            known = f"there are $1 to ${len(history)}" if history else "nothing has been printed yet"
            raise ExpressionError(f"there is no value ${text} in the history: {known}")
        value, type = history[number - 1]
        return Constant(value, type)

    def plain(self, name: str) -> Node:
        """What a name without `$` is. Raises ExpressionError."""
        symbol = self._symbols.find(name)
        register = self.register(name)
        # A kernel may have symbols such as "tsc" or "star": for the register of that name write $star. Of the parts of
        # registers "al", "si" and the like are plainer as symbols too.
        if isinstance(register, Register) and (symbol is None or (register.row not in SYSTEM_ROWS and name not in PARTS)):
            return self._in_frame(register)
        if symbol is None:
            known = "" if len(self._symbols) else _NONE_LOADED
            raise ExpressionError(
                f"{name!r} is no number, register or symbol{known}; hexadecimal numbers begin with 0x"
            )
        return self.symbol(name)

    def symbol(self, name: str) -> Node:
        """A symbol's address. Raises ExpressionError."""
        symbol = self._symbols.find(name)
        if symbol is None:
            raise ExpressionError(f"there is no symbol {name!r}")
        return Constant(symbol.address, U64)

    def line(self, text: str) -> Node:
        """The first code of a line, written FILE:LINE. Raises ExpressionError."""
        address = self._symbols.lookup(text)
        if address is None:
            raise ExpressionError(f"no code is known of {text}: `info line FUNCTION` shows how files are called")
        return Constant(address, U64)

    def _in_frame(self, register: Register) -> Node:
        """A register as the frame has it. Raises ExpressionError if that is not known."""
        frame = self._frame
        if frame is None or register.row not in FRAME_REGISTERS:
            return register
        value = frame.registers.get(register.row)
        if value is None:
            raise ExpressionError(
                f"${register.row} is not known in frame {frame.level}: what it called need not keep it "
                "(`info frame` shows what is known, `frame 0` goes back to the CPU's own)"
            )
        return Constant(value >> register.shift & (1 << register.bits) - 1, register.type)

    @staticmethod
    def register(name: str) -> Register | None:
        """A register or a part of one."""
        row = ALIASES.get(name, name)
        if row in REGISTERS:
            return Register(name, row, REGISTERS[row].bits)
        part = PARTS.get(name)
        return None if part is None else Register(name, part[0], part[1], part[2])


def check_variable(name: str) -> None:
    """Raise ExpressionError if a convenience variable cannot be called so."""
    if not _VARIABLE.fullmatch(name) or name in FACTS:
        raise ExpressionError(f"${name} cannot be set: a variable's name is letters, digits and _, and no other thing's")
