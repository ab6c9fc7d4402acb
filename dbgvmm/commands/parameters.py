"""How the text of a parameter becomes a value, by the parameter's annotation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
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
Place = NewType("Place", int)
"""As an address; a `*` in front of it says no more, as in gdb (`break *0x1000`). The word `if` is none: None."""
ExpressionWord = NewType("ExpressionWord", str)
"""A word of a longer text with expressions in it, as it was typed, quotes and all."""
ExpressionText = NewType("ExpressionText", str)
"""An expression's text, all the words that are left."""
RegisterName = NewType("RegisterName", str)
"""A register, with or without `$`."""
Format = NewType("Format", str)
"""What follows a `/` at the command's name, as in `x/4xg`."""


@dataclass(frozen=True)
class ParameterType:
    """How to read a parameter's word, and how it may be completed.

    joins: as the last one it takes all words that are left. quoted: it wants the word with its quotes.
    """

    parse: Callable[[Session, str], object]
    complete: Callable[[Session, str], Iterable[str]]
    joins: bool = False
    quoted: bool = False


def _nothing(session: Session, text: str) -> list[str]:
    return []


def _place(session: Session, text: str) -> int | None:
    return None if text == "if" else evaluate(session, text.removeprefix("*"))


def _complete_file(session: Session, text: str) -> list[str]:
    """Files and folders (these with a slash) that `text` begins."""
    path = Path(text).expanduser()
    folder, prefix = (path, "") if text.endswith("/") or not text else (path.parent, path.name)
    try:
        entries = [entry for entry in sorted(folder.iterdir()) if entry.name.startswith(prefix)]
    except OSError:
        return []
    typed = text[: len(text) - len(prefix)]
    shown = [entry for entry in entries if prefix.startswith(".") or not entry.name.startswith(".")]
    return [typed + entry.name + ("/" if entry.is_dir() else "") for entry in shown]


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


PATH: Final = ParameterType(lambda session, text: Path(text).expanduser(), _complete_file)
"""A file on the host. Commands with one are not for gdb's `monitor`."""
_TYPES: Final[dict[object, ParameterType]] = {
    str: ParameterType(lambda session, text: text, _nothing),
    Path: PATH,
    Address: ParameterType(evaluate, complete_expression, joins=True, quoted=True),
    Value: ParameterType(evaluate, complete_expression, joins=True, quoted=True),
    Place: ParameterType(_place, complete_expression, joins=True, quoted=True),
    ExpressionWord: ParameterType(lambda session, text: text, complete_expression, quoted=True),
    ExpressionText: ParameterType(lambda session, text: text, complete_expression, joins=True, quoted=True),
    Count: ParameterType(_count, complete_expression, quoted=True),
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
