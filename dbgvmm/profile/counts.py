"""Execution counts as data: by translation unit, by instruction, by page.

An instruction is known by its address, its bytes, the frames it lies in, and whether it ran at CPL 3. So code of two
address spaces at one linear address stays apart, what they share is counted once, and code that was overwritten keeps
what it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from iced_x86 import Decoder, FlowControl, Instruction

from dbgvmm.bt.counting import UNKNOWN, CodeKey
from dbgvmm.hardware.layout import PAGE_SHIFT

_NOWHERE: Final[Mapping[CodeKey, Mapping[int, int]]] = {}


class InstructionKey(NamedTuple):
    """One instruction of the guest. frames: numbers of the guest-physical pages it lies in (two if it crosses)."""

    address: int
    user: bool
    frames: tuple[int, ...]
    data: bytes
    bits: int

    def decode(self) -> Instruction:
        """The instruction (an invalid one decodes as such)."""
        return Decoder(self.bits, self.data, ip=self.address).decode()


@dataclass(frozen=True)
class UnitCount:
    """Straight-line guest code that was translated as one.

    size: bytes. length: guest instructions. entries: how often it was entered. rounds: how often its first instruction
    retired (more than entries, if it is a loop). instructions: that retired in it, in all.
    """

    address: int
    user: bool
    frames: tuple[int, ...]
    size: int
    length: int
    bits: int
    entries: int
    rounds: int
    instructions: int


class ExecutionCounts:
    """A snapshot of what was executed. total: instructions by the clock, which the counts sum up to.

    executions and targets: as `UnitCounting` has them.
    """

    def __init__(
        self, executions: Mapping[CodeKey, Mapping[int, int]], total: int,
        targets: Mapping[CodeKey, Mapping[int, int]] = _NOWHERE,
    ) -> None:  # fmt: skip
        self._executions = {key: dict(runs) for key, runs in executions.items()}
        self._targets = {key: dict(where) for key, where in targets.items()}
        self.total = total

    @cached_property
    def instructions(self) -> dict[InstructionKey, int]:
        """How often each instruction retired, those that did."""
        found: dict[InstructionKey, int] = {}
        for key, runs in self._executions.items():
            starts = _starts(key)
            retired = _retired(runs, key.length)
            length = len(starts) - 1
            for number in range(length):
                times = sum(retired[number::length])
                if times:
                    start, end = starts[number], starts[number + 1]
                    item = InstructionKey(key.address + start, key.user, key.frames, key.data[start:end], key.bits)
                    found[item] = found.get(item, 0) + times
        return found

    @cached_property
    def indirect_calls(self) -> dict[InstructionKey, dict[int, int]]:
        """By call through a pointer, in 64-bit code: how often to which address; UNKNOWN for those beyond the few of a site
        that are told apart. (A call to what is no address faults, and may be here all the same.)"""
        found: dict[InstructionKey, dict[int, int]] = {}
        for key, targets in self._targets.items():
            start, end = _starts(key)[-2:]
            item = InstructionKey(key.address + start, key.user, key.frames, key.data[start:end], key.bits)
            if item.decode().flow_control == FlowControl.INDIRECT_CALL:
                where = found.setdefault(item, {})
                for target, times in targets.items():
                    where[target] = where.get(target, 0) + times
        return found

    @cached_property
    def units(self) -> list[UnitCount]:
        """By translation unit, the one in which most instructions retired first."""
        found = []
        for key, runs in self._executions.items():
            instructions = sum(retired * times for retired, times in runs.items())
            entries = sum(runs.values())
            if not instructions and not entries:
                continue
            length = len(_starts(key)) - 1
            rounds = sum(_retired(runs, key.length)[::length])
            found.append(
                UnitCount(key.address, key.user, key.frames, len(key.data), length, key.bits, entries, rounds, instructions)
            )
        found.sort(key=lambda unit: (-unit.instructions, unit.address, unit.user, unit.frames))
        return found

    @cached_property
    def pages(self) -> dict[tuple[int, bool, int], int]:
        """Instructions that retired, by the page they begin on: linear address, whether at CPL 3, frame."""
        found: dict[tuple[int, bool, int], int] = {}
        for item, times in self.instructions.items():
            page = item.address >> PAGE_SHIFT << PAGE_SHIFT, item.user, item.frames[0]
            found[page] = found.get(page, 0) + times
        return found

    @cached_property
    def by_address(self) -> dict[tuple[bool, int], int]:
        """Executions of what begins at a linear address, all frames and bytes together, by (at CPL 3, address)."""
        found: dict[tuple[bool, int], int] = {}
        for item, times in self.instructions.items():
            at = item.user, item.address
            found[at] = found.get(at, 0) + times
        return found

    def at(self, address: int, *, user: bool | None = None) -> int:
        """How often an instruction that begins at a linear address has retired; user: at CPL 3, or not; None: either."""
        rings = (False, True) if user is None else (user,)
        return sum(self.by_address.get((ring, address), 0) for ring in rings)

    @cached_property
    def user_total(self) -> int:
        """Instructions that retired at CPL 3."""
        return sum(times for item, times in self.instructions.items() if item.user)


def _retired(runs: Mapping[int, int], length: int) -> list[int]:
    """How often each of `length` instructions retired; runs: how often the first n of them did."""
    retired = [0] * length
    times = 0
    for number in range(length, 0, -1):
        times += runs.get(number, 0)
        retired[number - 1] = times
    return retired


def _starts(key: CodeKey) -> list[int]:
    """Offsets of the code's instructions (of one round), and of its end."""
    data = key.data
    decoder = Decoder(key.bits, data, ip=key.address)
    starts = [0]
    while decoder.can_decode:
        decoder.decode()
        starts.append(decoder.position)
    return starts


__all__ = ["UNKNOWN", "ExecutionCounts", "InstructionKey", "UnitCount"]
