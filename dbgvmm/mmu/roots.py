"""Roots: one shadow address space for each guest CR3, kept over CR3 writes.

A root is a PML5 table: slot 0 leads to a PML4 table with the guest's entries 0 to 255, slot 511 to one with entries 256
to 511, so that no address that is non-canonical for the guest is ever mapped; the monitor has the slots between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from dbgvmm.hardware.layout import MonitorPhysical
from dbgvmm.hardware.memory import FramePool
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.monitor_space import MonitorSpace, MonitorTables
from dbgvmm.mmu.pages import TOP, ShadowPage, ShadowPages
from dbgvmm.mmu.windows import Windows

MAX_ROOTS: Final = 256
_LINK: Final = PTE.P | PTE.W | PTE.U | PTE.A | PTE.D
IDENTITY: Final = -1
"""The "CR3 frame" of the root for CR0.PG=0."""


class Root:
    """One address space. `pml5` is what the hardware's CR3 gets; `page` is the guest's PML4 (None if paging is off).

    path_key: or-ed to a page number, it makes a key that is this root's own. number: 1 for the first root that was made.
    born: the instruction count when it was made.
    """

    __slots__ = ("born", "halves", "high", "key", "low", "monitor", "number", "page", "path_key", "pml5")

    def __init__(
        self, key: tuple[int, int], pml5: MonitorPhysical, low: int, high: int, halves: tuple[MonitorPhysical, ...],
        page: ShadowPage | None, monitor: MonitorTables, number: int,
    ) -> None:  # fmt: skip
        self.key = key
        self.number = number
        self.born = 0
        self.path_key = number << 64
        self.pml5 = pml5
        self.low = low
        self.high = high
        self.halves = halves
        self.page = page
        self.monitor = monitor


class Eviction(NamedTuple):
    """A root that was destroyed: its CR3 frame (or IDENTITY), number, and the instruction counts of its life."""

    gfn: int
    number: int
    born: int
    died: int


class Roots:
    """The roots, least recently used first. evicted: the last ones that were destroyed, oldest first."""

    def __init__(
        self, frames: FramePool, pages: ShadowPages, monitor: MonitorSpace, windows: Windows, limit: int = MAX_ROOTS
    ) -> None:
        self._frames = frames
        self._q = frames.u64
        self._pages = pages
        self._monitor = monitor
        self._windows = windows
        self.limit = limit
        self.by_key: dict[tuple[int, int], Root] = {}
        self.created = 0
        self.evicted: deque[Eviction] = deque(maxlen=MAX_ROOTS)
        self.now: Callable[[], int] = lambda: 0
        self.current: Root | None = None

    def select(self, gfn: int, role: int) -> Root:
        """Make the root for CR3 frame `gfn` (or IDENTITY) current, building it if need be."""
        key = gfn, role
        root = self.by_key.pop(key, None)
        if root is None:
            while len(self.by_key) >= self.limit:
                self.discard(next(root for root in self.by_key.values() if root is not self.current))
            root = self._build(key)
        self.by_key[key] = root
        self.current = root
        return root

    def _build(self, key: tuple[int, int]) -> Root:
        gfn, role = key
        self.created += 1
        index = self._frames.index
        pml5, lower, upper = (self._frames.allocate() for _ in range(3))
        low, high = index(lower), index(upper)
        self._q[index(pml5)] = lower | _LINK
        self._q[index(pml5) + 511] = upper | _LINK
        page = None
        if gfn != IDENTITY:
            page = ShadowPage(gfn, TOP, role, lower, low, high)
            self._pages.register(page)
        root = Root(key, pml5, low, high, (lower, upper), page, self._monitor.attach(pml5), self.created)
        root.born = self.now()
        return root

    def of_page(self, page: ShadowPage) -> Root:
        """The root whose top-level page this is."""
        return self.by_key[page.gfn, page.role]

    def discard(self, root: Root) -> None:
        """Destroy a root, which must not be the current one."""
        del self.by_key[root.key]
        self.evicted.append(Eviction(root.key[0], root.number, root.born, self.now()))
        self._windows.forget_root(root.monitor)
        if root.page is not None:
            self._pages.clear(root.page)
            self._pages.unregister(root.page)
        else:
            self.zap_identity(root)
        self._monitor.detach(root.monitor)
        for frame in (root.pml5, *root.halves):
            self._frames.release(frame)

    def zap_identity(self, root: Root) -> None:
        """Drop the unpaged root's own page-directory pointers (what they lead to belongs to the region tables)."""
        entry = self._q[root.low]
        if entry:
            self._q[root.low] = 0
            self._frames.release(MonitorPhysical(entry & PTE.ADDRESS))
