"""Breakpoints at guest-physical addresses: whatever linear address the code is executed at.

Translation ends at linear addresses, so each linear address under which a watched frame is about to be translated (the
MMU tells) becomes a breakpoint with a condition: that it leads there still. One that is found only when the guest stands
right in front of it is seen too, since nothing of it is translated yet: the cache is flushed and the dispatcher looks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dbgvmm.bt.cache import CacheFull, TranslationCache
from dbgvmm.cpu.state import VCpu
from dbgvmm.debug.breakpoints import Breakpoints, Condition
from dbgvmm.hardware.layout import PAGE_SIZE
from dbgvmm.mmu.mmu import ShadowMmu

_OFFSET: Final = PAGE_SIZE - 1
_SHIFT: Final = 12


class _Leads:
    """The condition of a linear breakpoint: RIP is translated to `gpa`, and one of its users wants a stop."""

    def __init__(self, cpu: VCpu, mmu: ShadowMmu, gpa: int) -> None:
        self._cpu, self._mmu, self._gpa = cpu, mmu, gpa
        self.users: list[Condition | None] = []

    def __call__(self) -> bool:
        if self._mmu.walk_report(self._cpu.rip).gpa != self._gpa:
            return False
        stops = [condition is None or condition() for condition in self.users]
        return any(stops)


class PhysicalBreakpoints:
    """The physical breakpoints of a machine. Users are counted; each may have a condition."""

    def __init__(self, cpu: VCpu, mmu: ShadowMmu, cache: TranslationCache, breakpoints: Breakpoints) -> None:
        self._cpu = cpu
        self._mmu = mmu
        self._cache = cache
        self._breakpoints = breakpoints
        self._conditions: dict[int, _Leads] = {}
        self._places: dict[int, set[int]] = {}

    def add(self, gpa: int, condition: Condition | None = None) -> None:
        """Stop in front of the instruction at guest-physical `gpa`."""
        leads = self._conditions.get(gpa)
        if leads is not None:
            leads.users.append(condition)
            return
        leads = self._conditions[gpa] = _Leads(self._cpu, self._mmu, gpa)
        leads.users.append(condition)
        self._places[gpa] = set()
        self._mmu.on_fetch = self._fetched
        self._place(gpa, gpa)  # before paging is on, and where the guest maps it 1:1
        for page in self._cache.by_frame.get(gpa >> _SHIFT, ()):
            for va, frame in page.pages:
                if frame == gpa >> _SHIFT:
                    self._place(gpa, va | gpa & _OFFSET)

    def remove(self, gpa: int, condition: Condition | None = None) -> bool:
        """Take one with this condition away; False if there is none."""
        leads = self._conditions.get(gpa)
        if leads is None or condition not in leads.users:
            return False
        leads.users.remove(condition)
        if not leads.users:
            del self._conditions[gpa]
            for va in sorted(self._places.pop(gpa)):
                self._breakpoints.remove(va, leads)
        if not self._conditions:
            self._mmu.on_fetch = None
        return True

    def clear(self) -> None:
        """Remove all."""
        for gpa, leads in list(self._conditions.items()):
            for condition in list(leads.users):
                self.remove(gpa, condition)

    def made(self, va: int) -> bool:
        """Whether the linear breakpoint at `va` is (also) one of ours."""
        return any(va in places for places in self._places.values())

    def at(self, rip: int) -> int | None:
        """The physical breakpoint that the instruction at `rip` is under, if any."""
        gpa = self._mmu.walk_report(rip).gpa
        return gpa if gpa in self._conditions else None

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._conditions))

    def __len__(self) -> int:
        return len(self._conditions)

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
        for gpa in self._conditions:
            if gpa >> _SHIFT == frame and self._place(gpa, rip & ~_OFFSET | gpa & _OFFSET):
                here = here or rip & _OFFSET == gpa & _OFFSET
        if here:
            raise CacheFull
