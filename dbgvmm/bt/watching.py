"""Watchpoints of a debugger: stop behind the instruction that accessed a range of guest memory.

The frames behind the watched addresses are traced: written ones are not writable (WATCH), and where reads count they are
not mapped at all (HIDE). So an access to such a page faults; the instruction's operands are compared with the ranges, and
it runs alone with the page open. What the monitor accesses for the guest (the frames of interrupts, operands of callouts)
is compared too. Which frames are behind the addresses is looked up again whenever the guest's mappings may have changed.

An instruction that keeps faulting beside what is watched is translated with a guard, and needs no exit there (guards.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from iced_x86 import Instruction

from dbgvmm.bt.accesses import MemoryAccesses
from dbgvmm.bt.aliases import Aliases
from dbgvmm.bt.guards import Guard
from dbgvmm.bt.history import GUARDED
from dbgvmm.bt.units import Mark, TranslationUnit
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.hardware.engine import EngineError
from dbgvmm.hardware.layout import MASK64, PAGE_SHIFT, PAGE_SIZE
from dbgvmm.mmu.trace_kinds import HIDE, WATCH

if TYPE_CHECKING:
    from dbgvmm.bt.dispatcher import Dispatcher

GUARDED_AFTER = 4
MAX_GAPS: Final = 4
LAST_GUARD: Final = 8
"""So often an instruction gets another guard: one that alternates between watched pages cannot have the right one."""
_CR3_TABLE: Final = 0x000F_FFFF_FFFF_F000


@dataclass(frozen=True, slots=True)
class Watch:
    """`length` bytes from `start`. `physical`: guest-physical. cr3: only in the address space of this top-level table."""

    start: int
    length: int
    reads: bool = False
    writes: bool = True
    physical: bool = False
    cr3: int | None = None

    def __post_init__(self) -> None:
        if self.length < 1 or not 0 <= self.start <= self.start + self.length - 1 <= MASK64:
            raise ValueError(f"{self.length} bytes at {self.start:#x} are no range of addresses")


@dataclass(frozen=True, slots=True)
class WatchHit:
    """An access by the instruction at `rip` to `address` (the first watched byte of it) that `watch` was set for."""

    watch: Watch
    address: int
    write: bool
    rip: int


class Watching:
    """The watches of one CPU, and what was found of them."""

    def __init__(self, dispatcher: Dispatcher, accesses: MemoryAccesses) -> None:
        self._dispatcher = dispatcher
        self._accesses = accesses
        self._mmu = dispatcher.mmu
        self._cpu = dispatcher.cpu
        self._memory = dispatcher.memory
        self.watches: tuple[Watch, ...] = ()
        self.hit: WatchHit | None = None
        """The first hit of the instruction that runs."""
        self._others: list[WatchHit] = []
        self.on_hit: Callable[[tuple[WatchHit, ...]], None] = self._nobody
        """Called with the hits of an instruction, one for each watch."""
        self.active = False
        self._aliases = Aliases(dispatcher.cpu, dispatcher.mmu, dispatcher.data)
        self._guarded_for: tuple[Watch, ...] = ()
        """The watches for which guards are in the translations."""
        self.guards = 0
        self._pages: dict[int, int] = {}
        self._physical: dict[int, int] = {}
        self._frames: dict[int, int] = {}
        self._seen: tuple[int, ...] = ()

    @staticmethod
    def _nobody(hits: tuple[WatchHit, ...]) -> None:
        raise EngineError("no debugger is attached to the dispatcher")

    def set(self, watches: Iterable[Watch]) -> None:
        """Watch exactly these from now on. Only while the guest stands still, or at an exit."""
        self.watches = tuple(watches)
        self.active = bool(self.watches)
        self._pages.clear()
        self._physical.clear()
        for watch in self.watches:
            pages = self._physical if watch.physical else self._pages
            kind = HIDE if watch.reads else WATCH
            for page in range(watch.start >> PAGE_SHIFT, (watch.start + watch.length - 1 >> PAGE_SHIFT) + 1):
                pages[page] = max(kind, pages.get(page, 0))
        self._memory.on_access = self.on_access if self.active else None
        self._dispatcher.choose_handler()
        self._seen = ()
        self._aliases.suspend()
        self.refresh()

    def begin(self) -> None:
        """The guest is about to run. Debuggers take their watchpoints away at each stop and put the same ones back: so only
        now is it known whether guards still hold."""
        if self._guarded_for and self._guarded_for != self.watches:
            self._dispatcher.cache.drop_guards()
            self._aliases.clear()
            self._guarded_for = ()
        if self.active:
            self.refresh()

    def on_exit(self, vector: int) -> None:
        """The handler of exits while something is watched."""
        self._dispatcher.on_exit(vector)
        self.refresh()

    def refresh(self) -> None:
        """Trace the frames that are behind the watched addresses now."""
        mmu = self._mmu
        seen = (
            mmu.root, mmu.tlb.generation, mmu.writes.table_writes, mmu.hidden_faults, mmu.tables_released, mmu.traces.added,
        )  # fmt: skip
        if seen == self._seen:
            return
        self._seen = seen
        frames = dict(self._physical)
        for page, kind in self._pages.items():
            gpa = mmu.walk_report(page << PAGE_SHIFT).gpa
            if gpa is not None:
                frame = gpa >> PAGE_SHIFT
                frames[frame] = max(kind, frames.get(frame, 0))
        if frames != self._frames:
            for frame, kind in self._frames.items():
                if frames.get(frame) != kind:
                    mmu.traces.remove(frame, kind)
            for frame, kind in frames.items():
                mmu.traces.add(frame, kind)
            self._frames = frames
        if self._guarded_for == self.watches:
            self._aliases.refresh()

    def concerns(self, gpa: int) -> bool:
        """Whether something on the page of this guest-physical address is watched."""
        return gpa >> PAGE_SHIFT in self._frames

    # -- comparing

    def examine(self, instruction: Instruction) -> None:
        """Note a hit if the next round of the instruction at RIP makes a watched access."""
        for access in self._accesses.of(instruction):
            if access.writes:
                self.on_access(access.address, access.size, True)
            if access.reads:
                self.on_access(access.address, access.size, False)

    def _may_hit(self, instruction: Instruction) -> bool:
        return any(
            self._find(access.address, access.size, write)
            for access in self._accesses.of(instruction, all_rounds=True)
            for write in (False, True)
        )

    def on_access(self, address: int, size: int, write: bool) -> None:
        """The guest, or the monitor for it, accesses linear memory."""
        found = self._find(address, size, write)
        if found and self.hit is None:
            self.hit, *self._others = found
        else:
            self._others += found

    def _find(self, address: int, size: int, write: bool) -> list[WatchHit]:
        found = []
        for watch in self.watches:
            if not (watch.writes if write else watch.reads):
                continue
            if watch.cr3 is not None and (watch.cr3 ^ self._cpu.cr3) & _CR3_TABLE:
                continue
            if watch.physical:
                at = self._physical_hit(watch, address, size)
            else:
                first = max(watch.start, address)
                at = first if first < min(watch.start + watch.length, address + size) else None
            if at is not None:
                found.append(WatchHit(watch, at, write, self._cpu.rip))
        return found

    def _physical_hit(self, watch: Watch, address: int, size: int) -> int | None:
        for linear in (address, address + size - 1 & MASK64):
            page = linear & ~0xFFF
            gpa = self._mmu.walk_report(linear).gpa
            if gpa is None:
                continue
            start = max(watch.start, (gpa & ~0xFFF) + max(0, address - page))
            if start < min(watch.start + watch.length, (gpa & ~0xFFF) + min(0x1000, address + size - page)):
                return start
        return None

    # -- running what faulted

    def run_alone(self, gpa: int) -> None:
        """The instruction at RIP accesses the watched page of `gpa`: compare, and run it with the page open."""
        dispatcher = self._dispatcher
        stepper = dispatcher.stepper
        try:
            instruction = stepper.decode(self._cpu.rip)
        except GuestFault as fault:
            dispatcher.deliver(fault)
            return
        one_round = stepper.is_repeated(instruction) and self._may_hit(instruction)
        if one_round or not stepper.is_repeated(instruction):
            self.examine(instruction)
        self._mmu.open_page(gpa)
        dispatcher.open_pages.append(gpa)
        dispatcher.enter_precise(1)
        if one_round:
            dispatcher.end_after_one_round()

    def accuse(self, unit: TranslationUnit, mark: Mark) -> None:
        """The instruction at `mark` has faulted on a watched page. If it keeps doing so beside what is watched, guard it."""
        page, offset = unit.page, (unit.guest_rip + mark.guest_offset) & 0xFFF
        if self.hit is not None or not unit.live or len(page.pages) > 1:
            return
        count = page.beside[offset] = page.beside.get(offset, 0) + 1
        if count % GUARDED_AFTER or count > LAST_GUARD * GUARDED_AFTER:
            return
        if self._guarded_for != self.watches:
            if self._guarded_for:
                return  # set anew while the guest runs: `begin` tidies up
            self._guarded_for = self.watches
        va = self._mmu.trace_va
        alias = self._aliases.find(va & ~0xFFF, self._mmu.trace_gpa >> PAGE_SHIFT)
        if alias is None:
            return
        known = page.guards.get(offset)
        gaps = known.gaps if known is not None and known.alias == alias else ()
        gap = self._gap(va, self._mmu.trace_gpa)
        if gap not in gaps and len(gaps) < MAX_GAPS:
            page.guards[offset] = Guard(alias, (*gaps, gap))
            self.guards += 1
            self._dispatcher.cache.remake(page, offset, GUARDED)

    def _gap(self, va: int, gpa: int) -> tuple[int, int]:
        """Around an address that is not watched: from and up to which offset on its page nothing is."""
        offset = va & 0xFFF
        low, high = 0, PAGE_SIZE
        for watch in self.watches:
            start = watch.start - (gpa & ~0xFFF if watch.physical else va & ~0xFFF)
            if start + watch.length <= offset:
                low = max(low, start + watch.length)
            elif start > offset:
                high = min(high, start)
        return low, high

    def report(self) -> None:
        """Tell of the hits, once: of several accesses to what one watch is for, of the first."""
        hit, self.hit = self.hit, None
        if hit is not None:
            first = {other.watch: other for other in reversed((hit, *self._others))}
            self.on_hit(tuple(reversed(first.values())))


__all__ = ["Watch", "WatchHit", "Watching"]
