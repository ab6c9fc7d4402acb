"""Types of values: integers of 8 to 128 bits, and pointers. Names are Rust's, C's and gdb's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.cpu.bits import MASK64


@dataclass(frozen=True, slots=True)
class IntType:
    """An integer."""

    bits: int
    signed: bool

    @property
    def size(self) -> int:
        """In bytes."""
        return self.bits // 8

    def wrap(self, value: int) -> int:
        """`value` modulo the type's range."""
        value &= (1 << self.bits) - 1
        return value - (1 << self.bits) if self.signed and value >> self.bits - 1 else value

    def __str__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"


@dataclass(frozen=True, slots=True)
class PointerType:
    """An address of something; of a `void` (None) nothing can be read."""

    to: IntType | PointerType | None

    @property
    def size(self) -> int:
        """In bytes."""
        return 8

    @property
    def step(self) -> int:
        """What adding 1 adds, in bytes."""
        return 1 if self.to is None else self.to.size

    def wrap(self, value: int) -> int:
        """Modulo 2^64."""
        return value & MASK64

    def __str__(self) -> str:
        return f"{'void' if self.to is None else self.to} *"


Type = IntType | PointerType

U64: Final = IntType(64, False)
I64: Final = IntType(64, True)


def _named() -> dict[str, IntType | None]:
    names: dict[str, IntType | None] = {"void": None}
    for bits, words in ((8, ("char",)), (16, ("short", "short int")), (32, ("int",)), (64, ("long", "long int", "long long"))):
        signed, unsigned = IntType(bits, True), IntType(bits, False)
        names |= dict.fromkeys((f"i{bits}", f"s{bits}", f"int{bits}", f"int{bits}_t", f"__s{bits}", *words), signed)
        names |= {f"signed {word}": signed for word in words} | {f"unsigned {word}": unsigned for word in words}
        names |= dict.fromkeys((f"u{bits}", f"uint{bits}", f"uint{bits}_t", f"__u{bits}"), unsigned)
    names |= {"unsigned": IntType(32, False), "size_t": U64, "bool": IntType(8, False)}
    return names


TYPE_NAMES: Final = _named()
"""By name; None is void. Names of several words have one blank between them."""
TYPE_WORDS: Final = frozenset(word for name in TYPE_NAMES for word in name.split())


def unsigned(bits: int) -> IntType:
    """The unsigned integer of so many bits."""
    return IntType(bits, False)
