"""`ShadowMmu`: the MMU of one machine, put together from its parts. The package's docstring lists the API.

How to use it: the hardware runs with CR3 = `root`, CR0.WP=1, EFER.NXE=1, CR4.LA57=1, and CR4.SMAP as the guest has it
(but off while the guest's paging is off). A #PF at a guest address goes to `on_page_fault`; one at a TC address means that
a window is not open. Frames are numbers (gpa >> 12), gpas are bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dbgvmm.cpu.bits import CR0, CR4, EFER, RFLAGS, Vector
from dbgvmm.cpu.faults import GuestFault, UnsupportedState
from dbgvmm.hardware.engine import Engine
from dbgvmm.hardware.layout import FRAMES_OFFSET, MONITOR_SIZE, PAGE_SIZE, MonitorPhysical
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FETCH, FRAME_MASK, HIDDEN, TRACE, TRUE, USER, WRITE
from dbgvmm.mmu.monitor_space import GLOBAL_TC_PAGES, MonitorSpace
from dbgvmm.mmu.pages import TOP, ShadowPages
from dbgvmm.mmu.regions import RegionTables
from dbgvmm.mmu.rmap import ReverseMap
from dbgvmm.mmu.roots import IDENTITY, Root, Roots
from dbgvmm.mmu.shadow import Filler, IdentityFiller, ShadowFiller
from dbgvmm.mmu.tlb import TlbState
from dbgvmm.mmu.trace import Traces
from dbgvmm.mmu.trace_kinds import CODE
from dbgvmm.mmu.walk import FourLevel, PagingMode, PagingRegisters, Unpaged, Walk, WalkReport
from dbgvmm.mmu.windows import Windows
from dbgvmm.mmu.wp0 import WP0_ROLE, Wp0Filler
from dbgvmm.mmu.writers import Writers
from dbgvmm.mmu.writes import GuestWrites

_CR3_FRAME: Final = FRAME_MASK << 12
_ENTRY_MASK: Final = FRAME_MASK << 9
"""`entry >> 3 & _ENTRY_MASK` is 512 * the frame that a guest entry names."""
_PRESSURE: Final = (MONITOR_SIZE - FRAMES_OFFSET) // PAGE_SIZE * 7 // 8
"""Frames in use from which shadows are dropped at the next safe moment."""
_CHECK_MASK: Final = 1023
"""Memory is looked at once in so many hidden faults, and at each change of address space."""


def _no_device_read(gpa: int, size: int) -> int:
    return (1 << 8 * size) - 1


def _no_device_write(gpa: int, size: int, value: int) -> None:
    """A write to a hole is lost."""


class ShadowMmu:
    """Shadow paging for one guest.

    validate: "eager" or "lazy", what a write to a guest table does to its shadow (see writes.py). user_execute: CPL 3 may
    execute guest pages in place. empty_slot: what fills new pages of the lookup tables.

    Set by the owner: `on_code_write(gpa, size)`, called after a store to a frame of translated code (also assignable
    as an attribute); `mmio_read(gpa, size)`, `mmio_write(gpa, size, value)` for accesses that the monitor makes itself;
    `read_ac()`: the guest's EFLAGS.AC, from the saved context unless replaced.
    """

    def __init__(
        self, engine: Engine, cpu: PagingRegisters, *, validate: str = "eager", user_execute: bool = False,
        empty_slot: int = 0,
    ) -> None:  # fmt: skip
        if validate not in ("eager", "lazy"):
            raise ValueError(f'validate must be "eager" or "lazy", not {validate!r}')
        self.engine = engine
        self.cpu = cpu
        self.ram = ram = engine.ram
        frames = engine.frames
        self._frames = frames
        self._ram_frames = ram.size // PAGE_SIZE
        self.validate = validate
        self.user_execute = user_execute
        self.mmio_read: Callable[[int, int], int] = _no_device_read
        self.mmio_write: Callable[[int, int, int], None] = _no_device_write
        self.read_ac: Callable[[], bool] = self._context_ac
        traced: dict[int, int] = {}
        self._floods: dict[int, int] = {}
        self.tlb = TlbState(engine)
        self.rmap = ReverseMap(frames)
        self.regions = RegionTables(frames, traced, execute=user_execute)
        self.traces = Traces(traced, self.rmap, self.regions, self.tlb, self._ram_frames)
        self.pages = ShadowPages(frames, self.traces, self.rmap, self.tlb)
        self.monitor = MonitorSpace(engine, empty_slot=empty_slot)
        self.windows = Windows(frames, self.monitor, self.tlb)
        self.pages.on_untraced = self.windows.table_untraced
        self.roots = Roots(frames, self.pages, self.monitor, self.windows)
        self._shadow_filler = ShadowFiller(
            frames, ram, self.pages, self.regions, self.rmap, traced, self._floods, user_execute=user_execute
        )
        self._wp0_filler = Wp0Filler(
            frames, self.pages, self.regions, self.rmap, traced, self.tlb, user_execute=user_execute
        )
        self._identity_filler = IdentityFiller(frames, self.regions, traced)
        self.writers = Writers()
        self.writes = GuestWrites(
            ram, frames, self.pages, self._shadow_filler, self.rmap, self.traces, self.windows, self.tlb, self._floods,
            self.writers, eager=validate == "eager",
        )  # fmt: skip
        self.writes.on_flood = self._flood
        self.guest_write_int = self.writes.write_int
        self.guest_write = self.writes.write
        self._four_level = FourLevel(ram, lambda: self.read_ac())
        self._unpaged = Unpaged()
        self.format: PagingMode = self._unpaged
        self._filler: Filler = self._identity_filler
        self._walk = self.format.walk
        self._fill = self._filler.fill
        self._refill = self._shadow_filler.refill
        self._with_user_pages = -1
        self._role = 0
        self._mode: tuple[int, ...] = ()
        self._cr3 = 0
        self.fault_error = 0
        self.trace_gpa = 0
        self.trace_va = self._trace_access = 0
        self.last_fault: tuple[int, int, bool, int] | None = None
        """What `on_page_fault` was asked last, and its answer."""
        self._forced: dict[int, int] = {}
        self.on_fetch: Callable[[int, int], None] | None = None
        """Told of (linear address, frame) before code from there is translated."""
        self.hidden_faults = self.true_faults = self.trace_faults = 0
        self.windows_refused = self.tables_released = self.reclaims = 0
        self._root: Root
        self.root: MonitorPhysical
        self.mode_changed()

    def _context_ac(self) -> bool:
        context = self.engine.context
        return bool(context.q[context.eflags_q] & RFLAGS.AC)

    def tell_time(self, now: Callable[[], int]) -> None:
        """Have what is recorded for people say when it was: `now` gives the instruction count."""
        self.writers.now = self.roots.now = now

    # -- which address space

    def mode_changed(self) -> None:
        """Paging bits of CR0, CR4 or EFER changed, or the whole CPU state was replaced: read them and CR3 anew.

        Raises UnsupportedState for a paging mode that has no format here (32-bit and PAE), with nothing changed.
        """
        cpu = self.cpu
        cr0, cr4, efer = cpu.cr0, cpu.cr4, cpu.efer
        paging = bool(cr0 & CR0.PG)
        if paging and not efer & EFER.LMA:
            name = "PAE" if cr4 & CR4.PAE else "32-bit"
            raise UnsupportedState(f"{name} paging without long mode: this MMU has 4-level paging and paging off")
        mode = (efer & EFER.NXE, cr4 & CR4.SMEP, cr4 & CR4.PGE)
        if self._mode and mode[0] != self._mode[0]:
            self.drop_all()
        if self._mode and mode[1] != self._mode[1]:
            self.windows.close_all()
        elif self._mode and mode[2] != self._mode[2]:
            self.windows.close_global()
        self._mode = mode
        self._with_user_pages = -1
        self._four_level.configure(cpu)
        self._shadow_filler.reserved = self._four_level.reserved
        self._wp0_filler.smap = bool(cr4 & CR4.SMAP)
        if not paging:
            self.format, self._filler, self._role = self._unpaged, self._identity_filler, 0
        elif cr0 & CR0.WP:
            self.format, self._filler, self._role = self._four_level, self._shadow_filler, 0
            self._with_user_pages = 0 if cr4 & CR4.SMAP else PTE.U
        else:
            self.format, self._filler, self._role = self._four_level, self._wp0_filler, WP0_ROLE
        self.pages.paths.clear()
        self._walk = self.format.walk
        self._fill = self._filler.fill
        self._cr3 = cpu.cr3 & _CR3_FRAME
        self._select_root()
        self.tlb.flush()

    def load_cr3(self, value: int, keep: bool = False) -> None:
        """The guest wrote `value` to CR3. `keep` (bit 63 with PCIDs) allows to flush less, which we never need.

        Shadows are in step with the guest's tables, so a reload of the same CR3 leaves the TLB alone.
        """
        self._cr3 = value & _CR3_FRAME
        before = self._root
        self._select_root()
        if self._root is before:
            self.tlb.guest_flush()
        else:
            self.tlb.flush()
            if self._frames.in_use > _PRESSURE:
                self.reclaim()

    def _select_root(self) -> None:
        roots = self.roots
        if self.format is self._unpaged:
            root = roots.select(IDENTITY, 0)
        else:
            created = roots.created
            root = roots.select(self._cr3 >> 12, self._role)
            if roots.created != created and not self._role:
                self._shadow_filler.prefill(root)
        self._root = root
        self.root = root.pml5

    # -- what the guest invalidates

    def invlpg(self, va: int) -> None:
        """INVLPG of a canonical address."""
        self.windows.page_invalidated(va >> 12)
        self.tlb.guest_flush()

    def invpcid(self, kind: int, pcid: int, va: int) -> None:
        """INVPCID: 0 one address, 1 one PCID, 2 everything with globals, 3 everything but globals (SDM vol. 2A)."""
        if kind == 0:
            self.invlpg(va)
        else:
            self.flush_all(include_global=kind == 2)

    def flush_all(self, include_global: bool) -> None:
        """The guest invalidates all translations (or all but global ones)."""
        if include_global:
            self.windows.close_global()
        self.tlb.guest_flush()

    # -- page faults

    def on_page_fault(self, va: int, error_code: int, user: bool) -> int:
        """Handle the hardware's #PF at canonical guest address `va`: HIDDEN, TRUE or TRACE.

        error_code: the hardware's; user: the guest's CPL is 3. With TRUE, `fault_error` is what the guest must see.
        """
        outcome = self._page_fault(va, error_code, user)
        self.last_fault = va, error_code, user, outcome
        return outcome

    def _page_fault(self, va: int, error_code: int, user: bool) -> int:
        access = error_code & (WRITE | FETCH)
        if user:
            access |= USER
        if self._with_user_pages >= 0 and not access & FETCH:
            outcome = self._refill(self._root, va, access, self._with_user_pages)
            if outcome == HIDDEN:
                self.hidden_faults += 1
                return HIDDEN
            if outcome == TRACE:
                self.trace_faults += 1
                self.trace_gpa = self._shadow_filler.gpa
                self.trace_va = va
                self._trace_access = access
                return TRACE
        walk = self._walk(self._cr3, va, access)
        if walk is None:
            self.true_faults += 1
            self.fault_error = self.format.error
            if self._floods:
                self._floods.pop(self.format.failed_table, None)
            return TRUE
        if self._fill(self._root, va, walk, access) == TRACE:
            self.trace_faults += 1
            self.trace_gpa = walk[0]
            self.trace_va = va
            self._trace_access = access
            return TRACE
        self.hidden_faults = count = self.hidden_faults + 1
        if not count & _CHECK_MASK and self._frames.in_use > _PRESSURE:
            self.reclaim()
        return HIDDEN

    @property
    def ad_updates(self) -> int:
        """Walks that had to set A or D bits in the guest's tables, as the CPU does."""
        return self._four_level.ad_updates + self._shadow_filler.ad_updates

    def walk(self, va: int, access: int) -> Walk | None:
        """The guest's walk of a canonical `va`, A and D bits set; None for a fault, whose code is `format.error`."""
        return self._walk(self._cr3, va, access)

    # -- traces

    def protect_code(self, frame: int) -> None:
        """Trace a frame whose code was translated: writes to it call `on_code_write`. Twice is once."""
        self.traces.add(frame, CODE)

    def unprotect_code(self, frame: int) -> None:
        """No translation of the frame's code is left."""
        self.traces.remove(frame, CODE)

    @property
    def on_code_write(self) -> Callable[[int, int], None]:
        """Called with (gpa, size) after bytes of a CODE-traced frame were stored."""
        return self.writes.on_code_write

    @on_code_write.setter
    def on_code_write(self, function: Callable[[int, int], None]) -> None:
        self.writes.on_code_write = function

    def open_page(self, gpa: int) -> None:
        """Make the frame of the last trace fault writable for one stepped instruction; then call `close_page`.

        For an instruction that writes to two traced frames, open the second when it faults too.
        """
        self.writes.open_page(gpa)
        if gpa >> 12 == self.trace_gpa >> 12:
            walk = self._walk(self._cr3, self.trace_va, self._trace_access)
            if walk is None or self._fill(self._root, self.trace_va, walk, self._trace_access) != TRACE:
                return
            if self._filler is self._wp0_filler:
                self._forced[gpa >> 12] = self._wp0_filler.force(self._root, self.trace_va, walk)

    def close_page(self, gpa: int) -> None:
        """End what `open_page` began: trace the frame again and apply what was written."""
        forced = self._forced.pop(gpa >> 12, None)
        if forced is not None:
            self._frames.u64[forced] = 0
            self.tlb.flush()
        self.writes.close_page(gpa)

    def release_table(self, frame: int) -> None:
        """The frame is no page table any more: drop its shadows, the links to them and the windows behind it.

        The table that CR3 points to stays traced.
        """
        for page in tuple(self.pages.of_table.get(frame, ())):
            if not page.alive:
                continue
            if page.level != TOP:
                self.pages.destroy(page)
            elif page is self._root.page:
                self.pages.clear(page)
            else:
                self.roots.discard(self.roots.of_page(page))
        self._floods.pop(frame, None)
        self.tables_released += 1

    def _flood(self, gfn: int) -> None:
        page = self._root.page
        if page is None or page.gfn != gfn:
            self.release_table(gfn)

    # -- code

    def resolve_code(self, va: int, user: bool) -> tuple[int, bool]:
        """Walk as an instruction fetch does: (frame, whether the translation is global). Raises GuestFault #PF."""
        walk = self._walk(self._cr3, va, FETCH | USER if user else FETCH)
        if walk is None:
            raise GuestFault(Vector.PF, self.format.error, cr2=va)
        if self.on_fetch is not None:
            self.on_fetch(va, walk[0] >> 12)
        return walk[0] >> 12, bool((walk[4] or walk[3] or walk[2]) & PTE.G and self.cpu.cr4 & CR4.PGE)

    def open_window(self, tc_page: int, pages: list[tuple[int, int]], user: bool, is_global: bool) -> bool:
        """Make a TC page executable in the current root (in all, if global) while the guest maps its code.

        pages: (va, frame) of the code's page, and of a second one if an instruction crosses into it. Returns False, with
        nothing opened, if the guest does not map them so or forbids the fetch: then `resolve_code` tells the fault.
        Raises ValueError if the TC page is in the wrong half for `is_global`.
        """
        if is_global != (tc_page < GLOBAL_TC_PAGES):
            half = "below" if is_global else "from"
            raise ValueError(f"TC page {tc_page}: use one {half} {GLOBAL_TC_PAGES} if is_global is {is_global}")
        access = FETCH | USER if user else FETCH
        cr3 = self._cr3
        entries: list[int] = []
        for va, frame in pages:
            walk = self._walk(cr3, va, access)
            if walk is None or walk[0] >> 12 != frame:
                self.windows_refused += 1
                return False
            _, e4, e3, e2, e1 = walk
            if is_global and not ((e1 or e2 or e3) & PTE.G and self.cpu.cr4 & CR4.PGE):
                self.windows_refused += 1
                return False
            self._filler.path(self._root, va, walk)
            if e4:
                entries.append(cr3 >> 3 | va >> 39 & 511)
                entries.append(e4 >> 3 & _ENTRY_MASK | va >> 30 & 511)
                if e2:
                    entries.append(e3 >> 3 & _ENTRY_MASK | va >> 21 & 511)
                    if e1:
                        entries.append(e2 >> 3 & _ENTRY_MASK | va >> 12 & 511)
        self.windows.add(self._root.monitor, tc_page, user, tuple(entries), tuple(va >> 12 for va, _ in pages))
        return True

    def close_windows_of(self, tc_page: int) -> None:
        """Close the TC page's windows in all roots, effective at once: it will hold something else."""
        self.windows.close_tc_page(tc_page)
        self.tlb.guest_flush()

    def close_all(self) -> None:
        """Close all windows in all roots, effective at once."""
        self.windows.close_all()
        self.tlb.guest_flush()

    # -- all of it

    def drop_all(self) -> None:
        """Forget all shadows of guest tables (RAM was replaced, or memory is short). They fill again by faults."""
        for root in tuple(self.roots.by_key.values()):
            if root is not self._root:
                self.roots.discard(root)
        if self._root.page is not None:
            self.pages.clear(self._root.page)
        self.rmap.slots.clear()
        self._floods.clear()
        self.tlb.flush()

    def reclaim(self) -> None:
        """Free the frames of all shadow pages."""
        self.reclaims += 1
        self.drop_all()

    def walk_report(self, va: int) -> WalkReport:
        """The guest's walk of `va` with every level's entry, without permissions or side effects."""
        return self.format.report(self._cr3, va)

    def report_in(self, root: Root, va: int) -> WalkReport:
        """The same in the address space of another root."""
        if root.page is None:
            return self._unpaged.report(0, va)
        return self._four_level.report(root.page.gfn << 12, va)

    @property
    def current(self) -> Root:
        """The root of the guest's address space."""
        return self._root

    @property
    def reserved(self) -> int:
        """Bits that no entry of the guest's tables may have set now."""
        return self._four_level.reserved

    def stats(self) -> dict[str, int]:
        """All counters by name; those of things that come and go are followed by how many exist now."""
        writes, windows, pages = self.writes, self.windows, self.pages
        return {
            "hidden_faults": self.hidden_faults,
            "true_faults": self.true_faults,
            "trace_faults": self.trace_faults,
            "filled_around": self._shadow_filler.filled_around,
            "table_writes": writes.table_writes,
            "code_writes": writes.code_writes,
            "pages_opened": writes.pages_opened,
            "tables_released": self.tables_released,
            "traced_frames": len(self.traces.kinds),
            "shadow_pages_created": pages.created,
            "shadow_pages": pages.created - pages.destroyed,
            "roots_created": self.roots.created,
            "roots": len(self.roots.by_key),
            "region_tables": len(self.regions.tables),
            "windows_opened": windows.opened,
            "windows_closed": windows.closed,
            "windows_refused": self.windows_refused,
            "windows": len(windows.open),
            "lookup_pages": len(self.monitor.lookup_pages),
            "reclaims": self.reclaims,
            "frames_in_use": self._frames.in_use,
        }
