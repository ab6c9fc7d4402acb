"""`Tracepoint`: where to collect, when, and what. A value: what happens to it in a run is `experiment.Progress`."""

from __future__ import annotations

from dataclasses import dataclass

from gdbstub.agent import Program
from gdbstub.tracing.actions import Action, registers_of


@dataclass(frozen=True, slots=True)
class Source:
    """A piece of what the user typed, for debuggers that come later: of kind `at`, `cond` or `cmd`; `length` is that of the
    whole, of which `text` begins at `start`."""

    kind: str
    start: int
    length: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do at each hit.

    condition: the program that must not give 0 (None: every arrival is a hit). actions: what is collected at the hit, in
    order. steps: so many instructions are run one by one behind it, and stepping_actions collected after each.
    """

    condition: Program | None = None
    actions: tuple[Action, ...] = ()
    steps: int = 0
    stepping_actions: tuple[Action, ...] = ()

    @property
    def registers(self) -> int:
        """The mask of those that a hit collects."""
        return registers_of(self.actions)

    @property
    def stepping_registers(self) -> int:
        """The mask of those that each step collects."""
        return registers_of(self.stepping_actions)


@dataclass(frozen=True, slots=True)
class Key:
    """What a debugger calls a tracepoint by: its number, which the locations of one share, and an address."""

    number: int
    address: int


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """One location of a tracepoint.

    passes: tracing ends with the hit of this number (0: it goes on). fast_length: of a fast tracepoint, bytes of the
    instruction that gdb thinks to replace; None for a plain one.
    """

    key: Key
    plan: Plan
    passes: int = 0
    fast_length: int | None = None

    @property
    def number(self) -> int:
        """The debugger's."""
        return self.key.number

    @property
    def address(self) -> int:
        """In front of the instruction here."""
        return self.key.address

    @property
    def fast(self) -> bool:
        """Whether it was asked for as a fast one (`ftrace`)."""
        return self.fast_length is not None
