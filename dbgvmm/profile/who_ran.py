"""Who ran when: samples in the order of time, by task or address space, in the intervals of a run's history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dbgvmm.profile.history import RunRecord, Stretch
from dbgvmm.profile.samples import Samples, StackKey
from dbgvmm.profile.sampling import Tail

_USER_CPL: Final = 3


@dataclass(frozen=True)
class Runner:
    """Tasks of one name, or an address space. name: "sh-42" if there is one of them, "sh" if there are more. tasks: how many.

    kernel, user: instructions that samples at CPL 0 and at CPL 3 stand for, by interval.
    """

    name: str
    tasks: int
    kernel: tuple[int, ...]
    user: tuple[int, ...]

    @property
    def instructions(self) -> int:
        """In all intervals."""
        return sum(self.kernel) + sum(self.user)


def who_ran(samples: Samples, record: RunRecord, tail: Tail | None = None) -> tuple[Runner, ...]:
    """All that were sampled, in the order in which they first ran. Intervals are those between the record's points.

    tail: what has passed since the last sample.
    """
    ends = [point.count for point in record.points[1:]]
    if not ends:
        return ()
    keys = list(samples.keys)
    taken = _in_time(samples, record.stretches)
    if tail is not None:
        taken.append((len(keys), ends[-1], tail.instructions))
        keys.append(tail.key)
    names = [_name(key) for key in keys]
    pids: dict[str, set[int]] = {}
    found: dict[str, tuple[list[int], list[int]]] = {}
    for number, count, instructions in taken:
        name, key = names[number], keys[number]
        parts = found.get(name)
        if parts is None:
            parts = found[name] = [0] * len(ends), [0] * len(ends)
        parts[key.cpl == _USER_CPL][min(bisect_left(ends, count), len(ends) - 1)] += instructions
        if key.task is not None:
            pids.setdefault(name, set()).add(key.task[0])
    return tuple(
        Runner(_title(name, pids.get(name, set())), max(len(pids.get(name, ())), 1), tuple(kernel), tuple(user))
        for name, (kernel, user) in found.items()
    )


def _in_time(samples: Samples, stretches: Sequence[Stretch]) -> list[tuple[int, int, int]]:
    """For each sample the number of its stack, the instruction count when it was taken, and what it stands for."""
    taken = []
    starts = {stretch.sample: stretch.count for stretch in stretches}
    count = 0
    for at, (number, instructions) in enumerate(zip(samples.order, samples.order_instructions, strict=True)):
        count = starts.get(at, count) + instructions
        taken.append((number, count, instructions))
    return taken


def _name(key: StackKey) -> str:
    return key.task[1] if key.task is not None else f"CR3 {key.cr3:#x}"


def _title(name: str, pids: set[int]) -> str:
    return f"{name}-{next(iter(pids))}" if len(pids) == 1 else name


__all__ = ["Runner", "who_ran"]
