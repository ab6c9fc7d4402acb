"""How the text of a parameter becomes a value, by the parameter's annotation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Final, Literal, NewType, Union, get_args, get_origin

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import complete_expression, evaluate
from dbgvmm.commands.session import Session
from dbgvmm.debug.registers import REGISTERS

Address = NewType("Address", int)
"""An expression: a number, a register, a symbol, sums of them."""
Count = NewType("Count", int)
"""As an address, but above 0."""
Value = NewType("Value", int)
"""As an address; for what is no address."""
RegisterName = NewType("RegisterName", str)
"""A register, with or without `$`."""
Format = NewType("Format", str)
"""What follows a `/` at the command's name, as in `x/4xg`."""


@dataclass(frozen=True)
class ParameterType:
    """How to read a parameter's word, and how it may be completed. joins: as the last one it takes all words that are left."""

    parse: Callable[[Session, str], object]
    complete: Callable[[Session, str], Iterable[str]]
    joins: bool = False


def _nothing(session: Session, text: str) -> list[str]:
    return []


def _count(session: Session, text: str) -> int:
    value = evaluate(session, text)
    if not 0 < value < 1 << 63:
        raise CommandError(f"{text!r} is no count: give a number above 0")
    return value


def _register(session: Session, text: str) -> str:
    name = text.removeprefix("$")
    if name not in REGISTERS and name != "rflags":
        raise CommandError(f"there is no register {text!r}: `info registers`, `info control` and `info fpu` list them")
    return name


def _complete_register(session: Session, text: str) -> list[str]:
    dollar = "$" if text.startswith("$") else ""
    return [dollar + name for name in REGISTERS if name.startswith(text.removeprefix("$"))]


_TYPES: Final[dict[object, ParameterType]] = {
    str: ParameterType(lambda session, text: text, _nothing),
    Address: ParameterType(evaluate, complete_expression, joins=True),
    Value: ParameterType(evaluate, complete_expression, joins=True),
    Count: ParameterType(_count, complete_expression),
    RegisterName: ParameterType(_register, _complete_register),
}


def parameter_type(annotation: object) -> ParameterType:
    """The type for an annotation: one of those above, a Literal of strings, or one of them `| None`."""
    origin = get_origin(annotation)
    if origin is Literal:
        return _choice(get_args(annotation))
    if origin in (Union, UnionType):
        (inner,) = (item for item in get_args(annotation) if item is not NoneType)
        return parameter_type(inner)
    try:
        return _TYPES[annotation]
    except KeyError:
        raise TypeError(f"a command's parameter cannot be annotated with {annotation!r}") from None


def _choice(choices: tuple[str, ...]) -> ParameterType:
    def parse(session: Session, text: str) -> str:
        if text not in choices:
            raise CommandError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return ParameterType(parse, lambda session, text: [choice for choice in choices if choice.startswith(text)])
