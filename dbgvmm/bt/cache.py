"""The translation cache: where units live, how they find each other, and how they die.

The TC is divided into pages. A TC page belongs to one code page (one guest page under one mapping), for the MMU guards
it by that mapping. The first half of the TC holds global kernel code, the second half the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from dbgvmm.bt.emission import EXIT
from dbgvmm.bt.forming import MAX_UNIT
from dbgvmm.bt.history import BECAME_DATA, BREAKPOINT, CODE_WRITTEN, FLUSHED, NOBODY, UNGUARDED, UnitHistory
from dbgvmm.bt.ledger import ExitLedger
from dbgvmm.bt.lookup import LookupTables
from dbgvmm.bt.mechanisms import TRANSLATION
from dbgvmm.bt.probes import Probe
from dbgvmm.bt.tcdata import BUDGET, LIMIT, TcData
from dbgvmm.bt.thunks import make_thunk
from dbgvmm.bt.translator import NO_PROBES, Translator
from dbgvmm.bt.units import LOOKUP_MISS, CodePage, Edge, Site, TcPage, TranslationUnit
from dbgvmm.hardware.engine import Engine
from dbgvmm.hardware.layout import (
    END_OF_USER,
    MASK64,
    PAGE_SHIFT,
    PAGE_SIZE,
    TC_OFFSET,
    TC_SIZE,
    TC_VA,
)
from dbgvmm.mmu.mmu import ShadowMmu

TC_PAGES: Final = TC_SIZE // PAGE_SIZE
FIRST_LOCAL: Final = TC_PAGES // 2
FIRST_STEP_PAGE: Final = 2
STEP_PAGES: Final = 16
"""TC pages for the stepper's copies of single instructions."""
ROOM: Final = 256
"""Bytes that must be free in a TC page before a unit is started there."""


_THUNK_ROOM: Final = 64
_LONGEST: Final = 15 * MAX_UNIT
"""Bytes that a unit's instructions can have."""
_MISS: Final = TC_VA, TC_VA + PAGE_SIZE
"""The miss exits of the kernel's and the user's lookup table."""


class CacheFull(Exception):
    """No TC page is left: the cache must be flushed."""


class TranslationCache:
    """All units, and the tables that lead to them. Counters are plain attributes (see `stats`)."""

    def __init__(self, engine: Engine, mmu: ShadowMmu, data: TcData, *, pages: int = TC_PAGES) -> None:
        self.engine = engine
        self.mmu = mmu
        self.data = data
        self.translator = Translator()
        self.ledger = ExitLedger(engine.meter)
        self.all_breakpoints: set[int] = set()
        """Guest addresses at which the monitor may want to be asked."""
        self.breakpoints: set[int] = set()
        """Those in front of which units end, and at which none begins."""
        self.probes: dict[int, Probe] = {}
        """The others: what runs in front of their instructions."""
        self.user_breakpoints = False
        """Whether one is where user code may be."""
        self.limit = min(pages, TC_PAGES)
        self._bytes = engine.frames.block.bytes
        self._words = engine.frames.u64
        self.code_pages: dict[tuple[object, ...], CodePage] = {}
        self.by_frame: dict[int, list[CodePage]] = {}
        self.tc_pages: dict[int, TcPage] = {}
        self.sites: dict[int, Site] = {}
        self.kernel_entries: dict[int, int] = {}
        self.user_entries: dict[int, int] = {}
        self.lookup = LookupTables(engine.frames, mmu.monitor, _MISS)
        self.history = UnitHistory()
        self.asked = 0
        self.missed = 0
        """How often an exit asked for the unit at an address, and how often there was none yet."""
        self.units_made = 0
        self.units_dead = 0
        self.chains = 0
        self.unchained = 0
        self.flushes = 0
        self.on_flush: Callable[[], None] = lambda: None
        """Called when nothing that was known of the guest's code holds any more."""
        self._next_global = 0
        self._next_local = 0
        self._start()

    def _start(self) -> None:
        """Begin with an empty TC: page 0 is the kernel's miss exit, page 1 the user's."""
        self._next_global = FIRST_STEP_PAGE + STEP_PAGES
        self._next_local = FIRST_LOCAL
        for index, user in ((0, False), (1, True)):
            owner = CodePage(0, (), user, True)
            page = TcPage(index, owner)
            owner.tc_pages.append(page)
            self.tc_pages[index] = page
            self._write(_MISS[index], EXIT)
            unit = TranslationUnit(0, owner)
            unit.tc_page, unit.tc_start, unit.tc_end = page, _MISS[index], _MISS[index] + len(EXIT)
            self.sites[_MISS[index] + len(EXIT)] = Site(LOOKUP_MISS, unit, 0)
        for index in range(FIRST_STEP_PAGE, FIRST_STEP_PAGE + STEP_PAGES):
            self.tc_pages[index] = TcPage(index, CodePage(0, (), True, True))

    def step_slot(self, number: int, code: bytes, size: int) -> int:
        """A place for one copied instruction of the stepper, which never reuses it while the count allows."""
        per_page = PAGE_SIZE // size
        number %= per_page * STEP_PAGES
        address = TC_VA + (FIRST_STEP_PAGE + number // per_page) * PAGE_SIZE + number % per_page * size
        self._write(address, code)
        self.engine.forget_code(address, address + size)
        return address

    def _write(self, address: int, code: bytes | bytearray) -> None:
        at = TC_OFFSET + address - TC_VA
        self._bytes[at : at + len(code)] = code

    # -- finding

    def code_page(self, rip: int, user: bool) -> CodePage:
        """The code page that `rip` lies on under the current mapping. Raises GuestFault if it may not be fetched."""
        va = rip & ~0xFFF
        frame, is_global = self.mmu.resolve_code(rip, user)
        key = (va, frame, user, is_global)
        page = self.code_pages.get(key)
        if page is None:
            page = self._new_code_page(key, va, ((va, frame),), user, is_global)
        return page

    def _new_code_page(
        self, key: tuple[object, ...], va: int, pages: tuple[tuple[int, int], ...], user: bool, is_global: bool
    ) -> CodePage:
        page = CodePage(va, pages, user, is_global, key)
        self.code_pages[key] = page
        for _, frame in pages:
            self.by_frame.setdefault(frame, []).append(page)
            self.mmu.protect_code(frame)
        return page

    def _crossing_page(self, rip: int, user: bool, first: CodePage) -> CodePage:
        """The code page for an instruction that crosses from `first` into the next page."""
        following = (first.va + PAGE_SIZE) & MASK64
        frame, is_global = self.mmu.resolve_code(following, user)
        is_global = is_global and first.is_global
        key = (first.va, first.pages[0][1], frame, user, is_global)
        page = self.code_pages.get(key)
        if page is None:
            page = self._new_code_page(key, first.va, (first.pages[0], (following, frame)), user, is_global)
        return page

    def _guest_bytes(self, page: CodePage, rip: int) -> bytes:
        ram = self.mmu.ram
        offset = rip & 0xFFF
        frame = page.pages[0][1] << PAGE_SHIFT
        if frame >= ram.size:
            return b"\xff" * 16
        data = bytes(ram.bytes[frame + offset : frame + min(offset + _LONGEST, PAGE_SIZE)])
        if len(page.pages) > 1:
            frame = page.pages[1][1] << PAGE_SHIFT
            data += bytes(ram.bytes[frame : frame + 15]) if frame < ram.size else b"\xff" * 15
        return data

    def find(self, rip: int, user: bool) -> TranslationUnit:
        """The unit that begins at `rip`, translated now if need be. Raises GuestFault as a fetch would."""
        return self._find_on(self.code_page(rip, user), rip, user)

    def find_from(self, source: TranslationUnit, rip: int) -> TranslationUnit:
        """The same for a running unit that branches to `rip`: the page that it runs from itself needs no walk."""
        page = source.page
        if rip >> 12 != page.va >> 12 or len(page.pages) > 1 or not source.live:
            page = self.code_page(rip, page.user)
        return self._find_on(page, rip, page.user)

    def _find_on(self, page: CodePage, rip: int, user: bool) -> TranslationUnit:
        self.asked += 1
        unit = page.units.get(rip & 0xFFF)
        if unit is None:
            self.missed += 1
            unit = self.ledger.timed(TRANSLATION, self._make, page, rip, user)
        (self.user_entries if user else self.kernel_entries)[rip] = unit.entry
        return unit

    def find_precise(self, rip: int, user: bool, length: int) -> TranslationUnit:
        """A unit of at most `length` instructions that chains to nothing and ignores breakpoints."""
        page = self.code_page(rip, user)
        length = min(length, MAX_UNIT)
        unit = page.precise.get((rip & 0xFFF, length))
        if unit is None:
            unit = self.ledger.timed(TRANSLATION, self._make, page, rip, user, precise=length)
        return unit

    def _make(self, page: CodePage, rip: int, user: bool, *, precise: int = 0) -> TranslationUnit:
        unit = TranslationUnit(rip, page)
        data = self._guest_bytes(page, rip)
        placed = self._place(unit, page, data, precise)
        if not placed:
            page = self._crossing_page(rip, user, page)
            existing = page.precise.get((rip & 0xFFF, 1)) if precise else page.units.get(rip & 0xFFF)
            if existing is not None:
                return existing
            unit = TranslationUnit(rip, page)
            data = self._guest_bytes(page, rip)
            self._place(unit, page, data, 1 if precise else 0, limit=1)
            precise = min(precise, 1)
        if precise:
            page.precise[rip & 0xFFF, precise] = unit
        else:
            page.units[rip & 0xFFF] = unit
        start = rip & 0xFFF
        page.code_map |= ((1 << len(unit.guest_bytes)) - 1) << start
        self.units_made += 1
        unit.born = self._now()
        return unit

    def _now(self) -> int:
        """The instruction count, as `Dispatcher.count`."""
        signed = self.data.signed
        return signed[LIMIT >> 3] - signed[BUDGET >> 3]

    def _place(
        self, unit: TranslationUnit, page: CodePage, data: bytes, precise: int, limit: int = MAX_UNIT
    ) -> bool:
        """Translate into the code page's current TC page, or into a new one. False: the instruction crosses."""
        counting = None if precise else self.translator.counting
        if counting is not None and not counting.has_room():
            raise CacheFull
        if not page.tc_pages or page.fill + ROOM > PAGE_SIZE:
            self._new_tc_page(page)
        while True:
            tc_page = page.tc_pages[-1]
            at = TC_VA + tc_page.index * PAGE_SIZE + page.fill
            code, sites = self.translator.translate(
                unit, data, at, limit=precise or limit, precise=bool(precise),
                breakpoints=self.all_breakpoints if precise else self.breakpoints,
                probes=NO_PROBES if precise else self.probes,
            )
            if not unit.length:
                return False
            if page.fill + len(code) <= PAGE_SIZE:
                break
            for edge in unit.edges:
                if edge.target is not None:
                    edge.target.incoming.remove(edge)
            unit.probes = ()
            if len(code) > PAGE_SIZE:
                limit = unit.length // 2  # probes and guards can be long
            else:
                self._new_tc_page(page)
        self._put(unit, tc_page, at, code)
        if counting is not None:
            counting.adopt(unit)
        unit.sites = [site.count for site in sites]
        self.sites.update(zip(unit.sites, sites, strict=True))
        return True

    def _put(self, unit: TranslationUnit, tc_page: TcPage, at: int, code: bytes | bytearray) -> None:
        """A unit's or a thunk's code into its TC page."""
        start = TC_OFFSET + at - TC_VA
        size = len(code)
        self._bytes[start : start + size] = code
        tc_page.owner.fill += size + 15 & ~15
        tc_page.starts.append(at)
        tc_page.units.append(unit)
        unit.tc_page = tc_page

    def _new_tc_page(self, page: CodePage) -> None:
        if page.is_global:
            if self._next_global >= min(FIRST_LOCAL, self.limit):
                raise CacheFull
            index, self._next_global = self._next_global, self._next_global + 1
        else:
            if self._next_local >= min(TC_PAGES, FIRST_LOCAL + self.limit):
                raise CacheFull
            index, self._next_local = self._next_local, self._next_local + 1
        tc_page = TcPage(index, page)
        page.tc_pages.append(tc_page)
        page.fill = 0
        self.tc_pages[index] = tc_page

    def unit_at(self, tc_rip: int) -> TranslationUnit | None:
        """The unit that a TC address belongs to."""
        page = self.tc_pages.get((tc_rip - TC_VA) >> 12)
        return page.unit_at(tc_rip) if page is not None else None

    def units(self) -> Iterator[TranslationUnit]:
        """Every live unit, in the order of code pages and offsets' first translation."""
        for page in self.code_pages.values():
            yield from page.units.values()

    def forget_entry(self, rip: int, user: bool) -> None:
        """The unit last known for `rip` belongs to another mapping."""
        (self.user_entries if user else self.kernel_entries).pop(rip, None)

    # -- linking

    def link(self, edge: Edge, target: TranslationUnit) -> None:
        """Make the edge jump straight to `target`."""
        self._patch(edge, target.entry)
        edge.target = target
        target.incoming.append(edge)
        self.chains += 1

    def unlink(self, edge: Edge) -> None:
        """Make the edge leave to the monitor again."""
        self._patch(edge, edge.stub)
        edge.target = None
        self.unchained += 1

    def _patch(self, edge: Edge, destination: int) -> None:
        after = edge.patch + 4
        at = TC_OFFSET + edge.patch - TC_VA
        self._bytes[at : at + 4] = ((destination - after) & 0xFFFF_FFFF).to_bytes(4, "little")
        self.engine.forget_code(edge.patch - 2, after)

    def indirect_entry(self, unit: TranslationUnit) -> int:
        """Where a lookup may jump to: made when first needed."""
        if not unit.indirect_entry:
            page = unit.page
            if not page.tc_pages or page.fill + _THUNK_ROOM > PAGE_SIZE:
                self._new_tc_page(page)
            tc_page = page.tc_pages[-1]
            at = TC_VA + (tc_page.index << 12) + page.fill
            thunk = TranslationUnit(unit.guest_rip, page)
            self._put(thunk, tc_page, at, make_thunk(thunk, at, unit.entry))
            unit.indirect_entry = at
        return unit.indirect_entry

    def fill_lookup(self, unit: TranslationUnit) -> None:
        """Make indirect branches to the unit's guest address find it."""
        self.lookup.fill(unit.guest_rip, unit.page.user, self.indirect_entry(unit))

    # -- dying

    def kill(self, unit: TranslationUnit, why: str, by: int = NOBODY) -> None:
        """Invalidate one unit: nothing leads to it any more. Its bytes stay until the cache is flushed.

        by: the guest instruction that is the cause.
        """
        if not unit.live:
            return
        unit.live = False
        unit.why_dead = why
        self.history.bury(unit, self._now(), why, by)
        self.units_dead += 1
        for edge in unit.incoming:
            if edge.target is unit and edge.unit.live:
                self.unlink(edge)
        unit.incoming.clear()
        for edge in unit.edges:
            if edge.target is not None and edge.target is not unit:
                edge.target.incoming.remove(edge)
            edge.target = None
        page = unit.page
        if unit.indirect_entry:
            self.lookup.forget(unit.guest_rip, page.user, unit.indirect_entry)
        entries = self.user_entries if page.user else self.kernel_entries
        if entries.get(unit.guest_rip) == unit.entry:
            del entries[unit.guest_rip]
        offset = unit.guest_rip & 0xFFF
        if page.units.get(offset) is unit:
            del page.units[offset]
        for key in [key for key, value in page.precise.items() if value is unit]:
            del page.precise[key]

    def remake(self, page: CodePage, offset: int, why: str) -> None:
        """The instruction at this offset of the code page is to be translated otherwise: units that hold it are made anew."""
        for unit in list(page.units.values()):
            start = unit.guest_rip & 0xFFF
            if start <= offset < start + len(unit.guest_bytes):
                self.kill(unit, why, page.va | offset)

    def drop_guards(self) -> None:
        """Translate all guarded instructions as they are."""
        for page in self.code_pages.values():
            page.beside.clear()
            guards, page.guards = page.guards, {}
            for offset in guards:
                self.remake(page, offset, UNGUARDED)

    def code_written(self, gpa: int, size: int, why: str = CODE_WRITTEN) -> int:
        """Guest memory changed: kill the units made from these bytes. Returns how many."""
        frame = gpa >> PAGE_SHIFT
        killed = 0
        written = ((1 << size) - 1) << (gpa & 0xFFF) if size < PAGE_SIZE else -1
        for page in self.by_frame.get(frame, ()):
            page.writes += 1
            if len(page.pages) == 1 and not page.code_map & written:
                continue
            for unit in [*page.units.values(), *page.precise.values()]:
                start, remaining = unit.guest_rip & 0xFFF, len(unit.guest_bytes)
                for _, page_frame in page.pages:
                    length = min(remaining, PAGE_SIZE - start)
                    if page_frame == frame and start < (gpa & 0xFFF) + size and (gpa & 0xFFF) < start + length:
                        self.kill(unit, why, self.mmu.writers.rip)
                        killed += 1
                        break
                    start, remaining = 0, remaining - length
                    if remaining <= 0:
                        break
        return killed

    def abandon_frame(self, frame: int, why: str = BECAME_DATA) -> None:
        """A frame (number) that is written again and again is data now: kill all its units and stop tracing it."""
        for page in self.by_frame.pop(frame, []):
            for unit in [*page.units.values(), *page.precise.values()]:
                self.kill(unit, why, self.mmu.writers.rip)
            for tc_page in page.tc_pages:
                self.mmu.close_windows_of(tc_page.index)
            del self.code_pages[page.key]
            for _, other in page.pages:
                if other != frame and page in self.by_frame.get(other, []):
                    self.by_frame[other].remove(page)
        self.mmu.unprotect_code(frame)

    def flush(self) -> None:
        """Throw every unit away."""
        self.flushes += 1
        now = self._now()
        for page in self.code_pages.values():
            for unit in (*page.units.values(), *page.precise.values()):
                unit.live, unit.why_dead = False, FLUSHED
                self.history.bury(unit, now, FLUSHED, NOBODY)
        if self.translator.counting is not None:
            self.translator.counting.forget_units()
        self.mmu.close_all()
        for frame in self.by_frame:
            self.mmu.unprotect_code(frame)
        for table in (self.code_pages, self.by_frame, self.tc_pages, self.sites, self.kernel_entries, self.user_entries):
            table.clear()
        self.lookup.clear()
        self._start()
        self.on_flush()
        self.engine.forget_all_code()

    def switch_sse(self, on: bool) -> None:
        """CR4.OSFXSR is `on` from now on, and no unit holds that was made before."""
        self.translator.former.switch_sse(on)
        if self.units_made:
            self.flush()

    def set_breakpoint(self, rip: int, probe: Probe | None = None) -> None:
        """Have the monitor asked whenever the guest arrives at `rip`; with a probe, when that says so."""
        if rip in self.all_breakpoints and self.probes.get(rip) == probe:
            return
        self.all_breakpoints.add(rip)
        self.user_breakpoints = self.user_breakpoints or rip < END_OF_USER
        if probe is None:
            self.breakpoints.add(rip)
            self.probes.pop(rip, None)
        else:
            self.breakpoints.discard(rip)
            self.probes[rip] = probe
        self._retire_breakpoint(rip)

    def clear_breakpoint(self, rip: int) -> None:
        """No breakpoint at `rip` any more."""
        for known in (self.all_breakpoints, self.breakpoints):
            known.discard(rip)
        self.probes.pop(rip, None)
        if rip < END_OF_USER:
            self.user_breakpoints = any(at < END_OF_USER for at in self.all_breakpoints)
        self._retire_breakpoint(rip)

    def _retire_breakpoint(self, rip: int) -> None:
        """A breakpoint at `rip` was set or removed: units that contain it must be made anew."""
        for page in list(self.code_pages.values()):
            if not any(va <= rip < va + PAGE_SIZE for va, _ in page.pages):
                continue
            for unit in [*page.units.values(), *page.precise.values()]:
                if unit.guest_rip <= rip < unit.guest_rip + max(len(unit.guest_bytes), 1):
                    self.kill(unit, BREAKPOINT, rip)

    def stats(self) -> dict[str, int]:
        """Counters, by the names used in --stats."""
        return {
            "translation_units": self.units_made,
            "tus_invalidated": self.units_dead,
            "translated_instructions": self.translator.instructions,
            "chains": self.chains,
            "unchained": self.unchained,
            "tc_flushes": self.flushes,
            "tc_bytes": (self._next_global + self._next_local - FIRST_LOCAL) * PAGE_SIZE,
            "lookup_fills": self.lookup.fills,
            "lookup_pages": len(self.lookup),
        }


__all__ = ["CacheFull", "TranslationCache"]
