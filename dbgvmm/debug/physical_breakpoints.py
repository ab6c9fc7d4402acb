"""Breakpoints at guest-physical addresses: whatever linear address the code is executed at.

Translation ends at linear addresses, so each linear address under which a watched frame is about to be translated (the
MMU tells) becomes a breakpoint with a condition: that it leads there still. One that is found only when the guest stands
right in front of it is seen too, since nothing of it is translated yet: the cache is flushed and the dispatcher looks again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from dbgvmm.bt.cache import CacheFull, TranslationCache
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.breakpoints import Breakpoints
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.mmu.mmu import ShadowMmu

_OFFSET: Final = PAGE_SIZE - 1
_SHIFT: Final = 12


class _Leads:
    """The condition of a linear breakpoint: RIP is translated to `gpa`."""

    def __init__(self, cpu: VCpu, mmu: ShadowMmu, gpa: int) -> None:
        self._cpu, self._mmu, self._gpa = cpu, mmu, gpa

    def __call__(self) -> bool:
        return self._mmu.walk_report(self._cpu.rip).gpa == self._gpa


class PhysicalBreakpoints:
    """The physical breakpoints of a machine. Users are counted."""

    def __init__(self, cpu: VCpu, mmu: ShadowMmu, cache: TranslationCache, breakpoints: Breakpoints) -> None:
        self._cpu = cpu
        self._mmu = mmu
        self._cache = cache
        self._breakpoints = breakpoints
        self._users: Counter[int] = Counter()
        self._conditions: dict[int, _Leads] = {}
        self._places: dict[int, set[int]] = {}

    def add(self, gpa: int) -> None:
        """Stop in front of the instruction at guest-physical `gpa`."""
        self._users[gpa] += 1
        if self._users[gpa] > 1:
            return
        self._conditions[gpa] = _Leads(self._cpu, self._mmu, gpa)
        self._places[gpa] = set()
        self._mmu.on_fetch = self._fetched
        self._place(gpa, gpa)  # before paging is on, and where the guest maps it 1:1
        for page in self._cache.by_frame.get(gpa >> _SHIFT, ()):
            for va, frame in page.pages:
                if frame == gpa >> _SHIFT:
                    self._place(gpa, va | gpa & _OFFSET)

    def remove(self, gpa: int) -> bool:
        """Take one away; False if there is none."""
        if not self._users[gpa]:
            del self._users[gpa]
            return False
        self._users[gpa] -= 1
        if not self._users[gpa]:
            del self._users[gpa]
            condition = self._conditions.pop(gpa)
            for va in sorted(self._places.pop(gpa)):
                self._breakpoints.remove(va, condition)
        if not self._users:
            self._mmu.on_fetch = None
        return True

    def clear(self) -> None:
        """Remove all."""
        for gpa in list(self._users):
            while self.remove(gpa):
                pass

    def made(self, va: int) -> bool:
        """Whether the linear breakpoint at `va` is (also) one of ours."""
        return any(va in places for places in self._places.values())

    def at(self, rip: int) -> int | None:
        """The physical breakpoint that the instruction at `rip` is under, if any."""
        gpa = self._mmu.walk_report(rip).gpa
        return gpa if gpa in self._users else None

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._users))

    def __len__(self) -> int:
        return len(self._users)

    def _place(self, gpa: int, va: int) -> bool:
        """Whether the linear address is a new one."""
        if va in self._places[gpa]:
            return False
        self._places[gpa].add(va)
        self._breakpoints.add(va, self._conditions[gpa])
        return True

    def _fetched(self, rip: int, frame: int) -> None:
        """Code at `rip`, which is on `frame`, is about to be translated. Raises CacheFull to have it looked at again."""
        here = False
        for gpa in self._users:
            if gpa >> _SHIFT == frame and self._place(gpa, rip & ~_OFFSET | gpa & _OFFSET):
                here = here or rip & _OFFSET == gpa & _OFFSET
        if here:
            raise CacheFull
