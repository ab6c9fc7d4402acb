"""Samples as they are kept: each different stack once, and one number a sample in the order of time.

Memory is bounded, and what does not fit is counted, not dropped: stacks beyond MAX_STACKS are one stack without frames,
and samples beyond MAX_ORDERED have a cost but no place in the order of time.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NewType

MAX_STACKS: Final = 1 << 18
MAX_ORDERED: Final = 1 << 20

Instructions = NewType("Instructions", int)
"""Guest time: retired instructions."""
HostNs = NewType("HostNs", int)
"""Monitor time: nanoseconds of the host's clock, for people only."""
Task = tuple[int, str]
"""A task's id and name."""


class StackKey(NamedTuple):
    """What makes two samples equal.

    task: whose it is, where somebody knows that. cr3: the guest's. addresses: code, innermost first: where the CPU was,
    then return addresses. Without any, it stands for all stacks for which there was no room.
    """

    task: Task | None
    cr3: int
    cpl: int
    addresses: tuple[int, ...]


NO_ROOM: Final = StackKey(None, 0, 0, ())


@dataclass(slots=True)
class Cost:
    """What a stack has cost: samples, guest instructions, and the monitor's nanoseconds by mechanism."""

    samples: int = 0
    instructions: int = 0
    monitor_ns: dict[str, int] = field(default_factory=dict)

    def add(self, other: Cost) -> None:
        """Have another one's cost too."""
        self.samples += other.samples
        self.instructions += other.instructions
        for mechanism, ns in other.monitor_ns.items():
            self.monitor_ns[mechanism] = self.monitor_ns.get(mechanism, 0) + ns


class Samples:
    """All samples since the last `clear`."""

    def __init__(self, max_stacks: int = MAX_STACKS, max_ordered: int = MAX_ORDERED) -> None:
        self._max_stacks = max_stacks
        self._max_ordered = max_ordered
        self._numbers: dict[tuple[object, ...], int] = {}
        self._later: dict[int, Cost] = {}
        """Of samples that have no place in the order."""
        self._monitor_ns: dict[int, dict[str, int]] = {}
        self.keys: list[StackKey] = []
        """The different stacks, in the order in which they were first met."""
        self.order = array("I")
        """For each sample the number of its stack in `keys`."""
        self.order_instructions = array("Q")
        """What each stands for."""

    def clear(self) -> None:
        """Forget all."""
        for kept in (self._numbers, self._later, self._monitor_ns, self.keys):
            kept.clear()
        for numbers in (self.order, self.order_instructions):
            del numbers[:]

    def add(self, key: tuple[Task | None, int, int, tuple[int, ...]], instructions: int, spent: dict[str, int] | None) -> None:
        """One sample (`key`: a StackKey, as a plain tuple) and what has passed since the one before.

        spent: the monitor's nanoseconds, by mechanism.
        """
        number = self._numbers.get(key)
        if number is None:
            number = self._new_stack(StackKey(*key))
        if spent:
            self._spend(number, spent)
        if len(self.order) < self._max_ordered:
            self.order.append(number)
            self.order_instructions.append(instructions)
        else:
            self._later.setdefault(number, Cost()).add(Cost(1, instructions))

    def _new_stack(self, key: StackKey) -> int:
        if len(self.keys) >= self._max_stacks:
            key = NO_ROOM
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.keys)
            self.keys.append(key)
        return number

    def _spend(self, number: int, spent: dict[str, int]) -> None:
        known = self._monitor_ns.setdefault(number, {})
        for mechanism, ns in spent.items():
            known[mechanism] = known.get(mechanism, 0) + ns

    def costs(self) -> list[Cost]:
        """What each of `keys` has cost."""
        costs = [Cost(monitor_ns=dict(self._monitor_ns.get(number, {}))) for number in range(len(self.keys))]
        for number, instructions in zip(self.order, self.order_instructions, strict=True):
            cost = costs[number]
            cost.samples += 1
            cost.instructions += instructions
        for number, cost in self._later.items():
            costs[number].add(cost)
        return costs

    def __len__(self) -> int:
        return len(self.order) + self.without_order

    @property
    def ordered(self) -> int:
        """Samples that have a place in the order of time."""
        return len(self.order)

    @property
    def instructions(self) -> int:
        """Guest instructions that the samples stand for."""
        return sum(self.order_instructions) + sum(cost.instructions for cost in self._later.values())

    @property
    def without_order(self) -> int:
        """Samples that have no place in the order of time."""
        return sum(cost.samples for cost in self._later.values())

    @property
    def without_stack(self) -> int:
        """Samples for whose stacks there was no room."""
        number = self._numbers.get(NO_ROOM)
        return 0 if number is None else self.costs()[number].samples


__all__ = ["MAX_ORDERED", "MAX_STACKS", "NO_ROOM", "Cost", "HostNs", "Instructions", "Samples", "StackKey", "Task"]
