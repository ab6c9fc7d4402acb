"""A check of everything that the MMU keeps: is the shadow what it must be, given the guest's tables as they are now?

Each shadow page is compared with its guest table entry by entry. Every entry must be implied by the guest's (same frame or
same next table, A set, D set where it is writable, no right that the guest's has not), and must not be writable if its
frame is traced. With the links between pages checked too, what holds for each entry holds for each address.

A finding is an error, or it is *permitted*: hardware too keeps a translation until the guest invalidates it (Intel SDM
vol. 3A, 4.10.4.3), and windows onto global code are kept so here. Everything else is in step with the guest's tables at
every moment at which the guest does not run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from dbgvmm.cpu.bits import CR4
from dbgvmm.hardware.layout import MONITOR_PA, PAGE_SHIFT, PAGE_SIZE, TC_OFFSET, MonitorPhysical
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FRAME_MASK
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.monitor_space import GLOBAL_TC_PAGES
from dbgvmm.mmu.pages import POOL_OFFSET, TOP, ShadowPage
from dbgvmm.mmu.reverse import places_of
from dbgvmm.mmu.roots import Root
from dbgvmm.mmu.trace_kinds import CODE, HIDE, TABLE
from dbgvmm.mmu.windows import Window

_RIGHTS: Final = PTE.W | PTE.U
_WD: Final = PTE.W | PTE.D
_LEVELS: Final = {4: "PML4E", 3: "PDPTE", 2: "PDE", 1: "PTE"}
_REGION_BITS: Final = PTE.ADDRESS & -(1 << 21)
_SHOWN_PLACES: Final = 2


class CodeOwner(Protocol):
    """What a TC page holds translations of: (virtual address, frame) of one code page or two; none for the monitor's own."""

    @property
    def pages(self) -> tuple[tuple[int, int], ...]: ...

    @property
    def user(self) -> bool: ...


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be; or, if `permitted`, not as the guest's tables say, but as hardware may have it.

    rule: which check found it: "entry", "link", "rights", "trace", "reverse map", "region", "root", "monitor", "window",
    "frames".
    """

    rule: str
    text: str
    permitted: bool = False


@dataclass(frozen=True)
class Consistency:
    """What was looked at, by name, and what was found."""

    checked: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are not permitted."""
        return tuple(finding for finding in self.findings if not finding.permitted)


def check_shadow(
    mmu: ShadowMmu, owner: Callable[[int], CodeOwner | None] = lambda page: None, code_frames: Collection[int] | None = None,
) -> Consistency:  # fmt: skip
    """Check everything. Only while the guest does not run.

    owner: whose translations a TC page holds. code_frames: the frames that translated code lies on; None: not known.
    """
    check = _Check(mmu, owner, code_frames)
    findings = tuple(check.findings())
    return Consistency(dict(check.checked), findings)


class _Check:
    def __init__(
        self, mmu: ShadowMmu, owner: Callable[[int], CodeOwner | None], code_frames: Collection[int] | None
    ) -> None:
        self._mmu = mmu
        self._owner = owner
        self._code_frames = code_frames
        self._q = mmu.engine.frames.u64
        self._ram_q = mmu.ram.u64
        self._ram_frames = mmu.ram.size >> PAGE_SHIFT
        self._traced = mmu.traces.kinds
        self.checked: Counter[str] = Counter()

    def findings(self) -> Iterator[Finding]:
        """All of them."""
        for page in self._mmu.pages.by_key.values():
            yield from self._page(page)
        yield from self._maps()
        yield from self._traces()
        yield from self._regions()
        yield from self._roots()
        yield from self._windows()
        yield from self._frames()

    # -- shadow pages

    def _page(self, page: ShadowPage) -> Iterator[Finding]:
        self.checked["shadow pages"] += 1
        if page.gfn >= self._ram_frames:
            yield Finding("entry", f"{self._name(page)} is the shadow of a table outside RAM")
            return
        guest = self._ram_q[page.gfn << 9 : page.gfn + 1 << 9].tolist()
        q = self._q
        shadow = (
            q[page.base : page.base + 512].tolist() if page.base == page.high
            else q[page.base : page.base + 256].tolist() + q[page.high + 256 : page.high + 512].tolist()
        )  # fmt: skip
        for index, entry in enumerate(shadow):
            if entry:
                self.checked["entries"] += 1
                for rule, text in self._entry(page, index, entry, guest[index]):
                    yield Finding(rule, f"{self._where(page, index)}: {text}; shadow {entry:016x}, guest {guest[index]:016x}")

    def _name(self, page: ShadowPage) -> str:
        return f"the {_LEVELS[page.level][:-1]} for guest table {page.gfn << PAGE_SHIFT:#x}"

    def _where(self, page: ShadowPage, index: int) -> str:
        slot = (page.base if index < 256 else page.high) + index
        places = ", ".join(f"{place.va:#x}" for place in places_of(self._mmu, slot, _SHOWN_PLACES))
        return f"{_LEVELS[page.level]} {index} of guest table {page.gfn << PAGE_SHIFT:#x} (at {places or 'no address'})"

    def _entry(self, page: ShadowPage, index: int, entry: int, guest: int) -> Iterator[tuple[str, str]]:
        """What is wrong with one shadow entry that is not 0."""
        if not guest & PTE.P:
            yield "entry", "the guest's entry is not present"
            return
        if guest & self._mmu.reserved or page.level == TOP and guest & PTE.PS:
            yield "entry", "the guest's entry has reserved bits set"
            return
        if not guest & PTE.A:
            yield "entry", "the guest's A bit is clear, and hardware would have to set it"
        # With CR0.WP=0 a page's role holds what the levels above allow.
        allowed = guest & _RIGHTS if not page.role else guest & _RIGHTS & (page.role if page.level < TOP else _RIGHTS)
        if page.level == 1:
            yield from self._leaf(page, entry, guest, allowed)
        elif page.level < TOP and guest & PTE.PS:
            yield from self._large(page, entry, guest, allowed)
        else:
            yield from self._link(page, index, entry, guest, allowed)

    def _rights(self, page: ShadowPage, entry: int, guest: int, allowed: int) -> Iterator[tuple[str, str]]:
        """Rights of what maps memory itself, a large page's link included."""
        if entry & PTE.U and not allowed & PTE.U:
            yield "rights", "it is a user page, the guest's is not"
        # Supervisor pages are writable with CR0.WP=0 whatever W says.
        if entry & PTE.W and not allowed & PTE.W and not (page.role and not entry & PTE.U):
            yield "rights", "it is writable, the guest's is not"
        if entry & PTE.W and not guest & PTE.D:
            yield "rights", "it is writable, and the guest's D bit is clear"

    def _leaf(self, page: ShadowPage, entry: int, guest: int, allowed: int) -> Iterator[tuple[str, str]]:
        frame = guest >> PAGE_SHIFT & FRAME_MASK
        if entry >> PAGE_SHIFT & FRAME_MASK != frame or entry & PTE.ADDRESS >= MONITOR_PA:
            yield "entry", "it maps another frame"
        yield from self._rights(page, entry, guest, allowed)
        kinds = self._traced.get(frame, 0)
        if entry & PTE.W and kinds:
            yield "trace", f"frame {frame << PAGE_SHIFT:#x} is traced and writable"
        if kinds & HIDE:
            yield "trace", f"frame {frame << PAGE_SHIFT:#x} is to be hidden and is mapped"
        if not entry & PTE.NX and not (self._mmu.user_execute and guest & PTE.U and not guest & PTE.NX):
            yield "rights", "it is executable"

    def _large(self, page: ShadowPage, entry: int, guest: int, allowed: int) -> Iterator[tuple[str, str]]:
        region = guest & _REGION_BITS
        regions = self._mmu.regions
        table = regions.tables.get(region >> 21) if page.level == 2 else regions.gigabytes.get(region >> 30)
        if table is None or entry & PTE.ADDRESS != table:
            yield "link", f"it does not lead to the region table of {region:#x}"
        yield from self._rights(page, entry, guest, allowed)
        if self._mmu.user_execute and not entry & PTE.NX and (guest & PTE.NX or not guest & PTE.U):
            yield "rights", "it is executable"

    def _link(self, page: ShadowPage, index: int, entry: int, guest: int, allowed: int) -> Iterator[tuple[str, str]]:
        child = self._mmu.pages.by_base.get((entry & POOL_OFFSET) >> 3)
        if child is None or child.address != entry & PTE.ADDRESS:
            yield "link", "it leads to no shadow page"
            return
        if child.gfn != guest >> PAGE_SHIFT & FRAME_MASK:
            yield "link", "it leads to the shadow of another table"
        if child.level != page.level - 1:
            yield "link", f"it leads to a table of level {child.level}"
        if child.role & _RIGHTS != (allowed if page.role else 0) or bool(child.role) != bool(page.role):
            yield "rights", "it leads to a page with another role"
        if not page.role and entry & _RIGHTS & ~allowed:
            yield "rights", "it gives rights that the guest's does not"
        if self._mmu.user_execute and not page.role and guest & PTE.NX and not entry & PTE.NX:
            yield "rights", "it allows execution, the guest's does not"
        if (page.base if index < 256 else page.high) + index not in child.parents:
            yield "link", "the page it leads to does not know it"

    # -- the maps between them

    def _maps(self) -> Iterator[Finding]:
        pages, rmap, q = self._mmu.pages, self._mmu.rmap, self._q
        leaves = {page.base: page for page in pages.by_base.values() if page.level == 1}
        if rmap.leaf_tables != leaves.keys():
            yield Finding("reverse map", "the reverse map's leaf tables are not the shadow's page tables")
        for base, page in leaves.items():
            for slot, entry in enumerate(q[base : base + 512].tolist(), base):
                if entry:
                    self.checked["reverse map entries"] += 1
                    noted = rmap.slots.get((entry & PTE.ADDRESS) >> PAGE_SHIFT, -1)
                    if noted != slot and (isinstance(noted, int) or slot not in noted):
                        yield Finding("reverse map", f"{self._where(page, slot & 511)} is not in the reverse map")
        for base, page in pages.by_base.items():
            if not page.parents:
                yield Finding("link", f"nothing links to {self._name(page)}")
            for slot in page.parents:
                if (q[slot] & POOL_OFFSET) >> 3 != base or not q[slot] & PTE.P:
                    yield Finding("link", f"{self._name(page)} is said to be linked from slot {slot:#x}, and is not")

    def _traces(self) -> Iterator[Finding]:
        of_table = self._mmu.pages.of_table
        for gfn in of_table:
            if gfn < self._ram_frames and not self._traced.get(gfn, 0) & TABLE:
                yield Finding("trace", f"guest table {gfn << PAGE_SHIFT:#x} has a shadow and is not traced")
        for frame, kinds in self._traced.items():
            self.checked["traces"] += 1
            if kinds & TABLE and frame not in of_table:
                yield Finding("trace", f"{frame << PAGE_SHIFT:#x} is traced as a page table and has no shadow")
            if self._code_frames is not None and kinds & CODE and frame not in self._code_frames:
                yield Finding("trace", f"{frame << PAGE_SHIFT:#x} is traced as code and has no translations")
        for frame in self._code_frames or ():
            if frame < self._ram_frames and not self._traced.get(frame, 0) & CODE:
                yield Finding("trace", f"{frame << PAGE_SHIFT:#x} has translated code and is not traced")

    def _regions(self) -> Iterator[Finding]:
        regions, q = self._mmu.regions, self._q
        for region, table in regions.tables.items():
            self.checked["region tables"] += 1
            base = self._mmu.engine.frames.index(table)
            for frame, entry in enumerate(q[base : base + 512].tolist(), region << 9):
                kinds = self._traced.get(frame, 0)
                name = f"the region table's entry of frame {frame << PAGE_SHIFT:#x}"
                if kinds & HIDE:
                    if entry:
                        yield Finding("trace", f"{name} maps a frame that is to be hidden")
                    continue
                if (entry & PTE.ADDRESS) >> PAGE_SHIFT != frame or not entry & PTE.P:
                    yield Finding("region", f"{name} is {entry:016x}")
                if entry & PTE.W and kinds:
                    yield Finding("trace", f"{name} is writable, and the frame is traced")
                if not entry & PTE.NX and not self._mmu.user_execute:
                    yield Finding("rights", f"{name} is executable")
        for gigabyte, table in regions.gigabytes.items():
            base = self._mmu.engine.frames.index(table)
            for region, entry in enumerate(q[base : base + 512].tolist(), gigabyte << 9):
                if entry and entry & PTE.ADDRESS != regions.tables.get(region):
                    yield Finding("region", f"gigabyte table {gigabyte}'s entry of region {region << 21:#x} is {entry:016x}")

    # -- roots and what is the monitor's

    def _roots(self) -> Iterator[Finding]:
        monitor, current = self._mmu.monitor, self._mmu.current
        for text in monitor.shared_problems():
            yield Finding("monitor", text)
        if self._mmu.root != current.pml5 or self._mmu.roots.by_key.get(current.key) is not current:
            yield Finding("root", "the current root is not one of the roots")
        for root in self._mmu.roots.by_key.values():
            self.checked["roots"] += 1
            first = self._mmu.engine.frames.index(root.pml5)
            for slot, half in ((first, root.halves[0]), (first + 511, root.halves[1])):
                if self._q[slot] & PTE.ADDRESS != half or not self._q[slot] & PTE.P:
                    yield Finding("root", f"PML5 entry {slot & 511} of root {root.pml5:#x} is {self._q[slot]:016x}")
            for text in monitor.problems(root.pml5, root.monitor):
                yield Finding("monitor", f"root {root.pml5:#x}: {text}")
            if root.page is None:
                yield from self._identity(root)

    def _identity(self, root: Root) -> Iterator[Finding]:
        link = self._q[root.low]
        if not link:
            return
        base = self._mmu.engine.frames.index(link & PTE.ADDRESS)
        for gigabyte, entry in enumerate(self._q[base : base + 512].tolist()):
            if entry and entry & PTE.ADDRESS != self._mmu.regions.gigabytes.get(gigabyte):
                yield Finding("root", f"the unpaged root's entry of gigabyte {gigabyte} is {entry:016x}")

    def _windows(self) -> Iterator[Finding]:
        windows, monitor = self._mmu.windows, self._mmu.monitor
        seen: set[int] = set()
        of_tables = {root.monitor: root for root in self._mmu.roots.by_key.values()}
        for tables in (None, *of_tables):
            for slot, entry in monitor.tc_entries(tables):
                seen.add(slot)
                window = windows.open.get(slot)
                if window is None:
                    yield Finding("window", f"a TC page is executable and has no window: slot {slot:#x}, {entry:016x}")
                    continue
                self.checked["windows"] += 1
                root = self._mmu.current if tables is None else of_tables[tables]
                page = MONITOR_PA + TC_OFFSET + window.tc_page * PAGE_SIZE
                if entry & PTE.ADDRESS != page or entry & PTE.W or entry & PTE.NX:
                    yield Finding("window", f"the window onto TC page {window.tc_page} is {entry:016x}")
                yield from self._window(root, window, entry)
        for slot in windows.open.keys() - seen:
            yield Finding("window", f"TC page {windows.open[slot].tc_page} is said to be open in slot {slot:#x}, and is not")

    def _window(self, root: Root, window: Window, entry: int) -> Iterator[Finding]:
        owner = self._owner(window.tc_page)
        stays = window.tc_page < GLOBAL_TC_PAGES  # until the guest invalidates it
        name = f"the window onto TC page {window.tc_page}"
        if owner is not None and bool(entry & PTE.U) != owner.user:
            yield Finding("window", f"{name} is for {'user' if entry & PTE.U else 'kernel'} code, its code is not")
        for number, page in enumerate(window.pages):
            va = page << PAGE_SHIFT
            report = self._mmu.report_in(root, va)
            text = ""
            if report.gpa is None:
                text = f"{report.problem}: {va:#x} is not mapped"
            elif owner is not None and owner.pages and owner.pages[number] != (va, report.gpa >> PAGE_SHIFT):
                text = f"{va:#x} is mapped to {report.gpa:#x} now"
            elif not report.executable:
                text = f"{va:#x} is no-execute now"
            elif report.levels and entry & PTE.U and not report.user:
                text = f"{va:#x} is a supervisor page now"
            elif report.levels and report.user and not entry & PTE.U and self._mmu.cpu.cr4 & CR4.SMEP:
                text = f"{va:#x} is a user page now, and SMEP is on"
            if text:
                yield Finding("window", f"{name} in root {root.pml5:#x}: {text}", stays)

    def _frames(self) -> Iterator[Finding]:
        mmu, pool = self._mmu, self._mmu.engine.frames
        used: list[int] = mmu.monitor.shared_frames()
        used += [page.address for page in mmu.pages.by_base.values()]
        used += [*mmu.regions.tables.values(), *mmu.regions.gigabytes.values()]
        for root in mmu.roots.by_key.values():
            used += [root.pml5, *root.halves, *root.monitor.frames]
            if root.page is None and self._q[root.low]:
                used.append(MonitorPhysical(self._q[root.low] & PTE.ADDRESS))
        self.checked["frames of the monitor"] = pool.in_use
        twice = [frame for frame, number in Counter(used).items() if number > 1]
        yield from (Finding("frames", f"frame {frame:#x} is used for two things") for frame in twice)
        yield from (Finding("frames", f"frame {frame:#x} is in use and free") for frame in set(used) if pool.is_free(frame))
        if len(set(used)) != pool.in_use:
            yield Finding("frames", f"{pool.in_use} frames are handed out, and {len(set(used))} are used")


__all__ = ["CodeOwner", "Consistency", "Finding", "check_shadow"]
