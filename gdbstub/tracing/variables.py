"""Trace state variables: 64-bit numbers that gdb names `$name`, shared by tracepoints and by breakpoints' programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. initial: its value (unsigned) at the beginning of a run. read: where the value of a built-in one comes
    from."""

    number: int
    name: str = ""
    initial: int = 0
    read: Callable[[], int] | None = None

    @property
    def builtin(self) -> bool:
        """Whether the target gives its value."""
        return self.read is not None


class Variables:
    """All variables and their values. `builtin`: those that the target gives."""

    def __init__(self, builtin: Iterable[Variable] = ()) -> None:
        self.builtin = tuple(builtin)
        self._known = {variable.number: variable for variable in self.builtin}
        self._values: dict[int, int] = {}

    def __iter__(self) -> Iterator[Variable]:
        return iter([self._known[number] for number in sorted(self._known)])

    def define(self, number: int, name: str, initial: int) -> None:
        """Make one, or give it another name and initial value. A built-in one stays as it is."""
        known = self._known.get(number)
        if known is None or not known.builtin:
            self._known[number] = Variable(number, name, initial & _MASK)

    def find(self, number: int) -> int | None:
        """The value; None if nobody has defined or set it."""
        known = self._known.get(number)
        if known is not None and known.read is not None:
            return known.read() & _MASK
        value = self._values.get(number)
        return known.initial if value is None and known is not None else value

    def value(self, number: int) -> int:
        """The value; 0 for one that nobody has defined or set."""
        return self.find(number) or 0

    def set(self, number: int, value: int) -> None:
        """Set one, which need not be defined. A built-in one stays as it is."""
        known = self._known.get(number)
        if known is None or not known.builtin:
            self._values[number] = value & _MASK

    def begin(self) -> None:
        """A run begins: all that are defined get their initial values."""
        for number in self._known:
            self._values.pop(number, None)

    def clear(self) -> None:
        """Forget all but the built-in ones."""
        self._known = {variable.number: variable for variable in self.builtin}
        self._values.clear()
