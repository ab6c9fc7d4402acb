"""What happens at the exits that the translator has put into a unit, by the kind of their `Site`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from iced_x86 import Instruction, Mnemonic

from dbgvmm.bt.cache import CacheFull
from dbgvmm.bt.callouts import SIMPLE
from dbgvmm.bt.emission import EXIT
from dbgvmm.bt.mechanisms import PRECISE_END, callout_key
from dbgvmm.bt.sync import IOPL
from dbgvmm.bt.tcdata import INTERRUPT_WAITS, MARGIN, PENDING, SPILL_RAX, SPILL_RCX
from dbgvmm.bt.units import Edge, Site
from dbgvmm.cpu.bits import Vector
from dbgvmm.cpu.faults import GuestFault
from dbgvmm.cpu.same_level import SameLevelReturn
from dbgvmm.hardware.layout import MASK64, is_canonical

if TYPE_CHECKING:
    from dbgvmm.bt.dispatcher import Dispatcher


class SiteExits:
    """Chain misses, lookup misses, callouts, the ends of slices and of precise units."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.cpu = dispatcher.cpu
        self.memory = dispatcher.memory
        self.cache = dispatcher.cache
        self.data = dispatcher.data
        self.sync = dispatcher.sync
        self.callouts = dispatcher.callouts
        self.ledger = dispatcher.ledger
        self._meter = dispatcher.engine.meter
        self._cells = dispatcher.ledger.cells
        self.recovery = dispatcher.recovery
        self.returns = dispatcher.returns
        self.same_level = SameLevelReturn()
        context = dispatcher.engine.context
        self._context = context
        self._q = context.q
        self._rip = context.rip_q
        self._signed = dispatcher.data.signed

    def handlers(self, on_store: Callable[[Site], None]) -> tuple[Callable[[Site], None], ...]:
        """By the kind of a site (`units.EDGE`, ...)."""
        return (
            self._on_edge, self._on_callout, self._on_slice, self._on_lookup_miss, self._on_break, self._on_pending,
            self._on_indirect, on_store, self._on_returned, self._on_probe,
        )  # fmt: skip

    def _on_edge(self, site: Site) -> None:
        """A direct branch whose target is not linked yet."""
        assert isinstance(site, Edge)
        target_rip = site.guest_rip
        unit = site.unit
        if not site.linkable:
            self.ledger.exit_is(PRECISE_END)
            self.recovery.account(unit, site.retired, False)
            self._dispatcher.resume_at(target_rip)
            return
        if target_rip in self.cache.breakpoints or self._dispatcher.stop_requested:
            self._dispatcher.resume_at(target_rip)
            return
        try:
            target = self.cache.find_from(unit, target_rip)
        except (GuestFault, CacheFull):
            self._dispatcher.resume_at(target_rip)
            return
        if unit.live and target.live:
            self.cache.link(site, target)
        self._q[self._rip] = target.entry

    def _on_lookup_miss(self, site: Site) -> None:
        """An indirect branch to an address that has no slot yet. RCX holds it; RAX and RCX are spilled."""
        gpr = self._context.gpr
        target_rip = gpr[1]
        gpr[0] = self.data.words[SPILL_RAX >> 3]
        gpr[1] = self.data.words[SPILL_RCX >> 3]
        self._go_indirect(target_rip, site.unit.page.user)

    def _go_indirect(self, target_rip: int, user: bool) -> None:
        if target_rip in self.cache.breakpoints or self._dispatcher.stop_requested or not is_canonical(target_rip):
            self._dispatcher.resume_at(target_rip)
            return
        try:
            target = self.cache.find(target_rip, user)
            self.cache.fill_lookup(target)
        except (GuestFault, CacheFull):
            self._dispatcher.resume_at(target_rip)
            return
        self._q[self._rip] = target.entry

    def _on_slice(self, site: Site) -> None:
        """The budget does not cover this unit and MARGIN more."""
        if self._dispatcher.sampling.taken(site):
            return
        unit = site.unit
        self.recovery.restore(unit, unit.mark_at(unit.resume_at))
        remaining = self._signed[0] + MARGIN
        if self._dispatcher.stop_requested or remaining <= 0 or self.cpu.rip in self.cache.probes:
            self._dispatcher.probe_left = True  # it has not run, and must not be entered again
            self._dispatcher.resume()
        else:
            self._dispatcher.enter_precise(remaining)

    def _on_pending(self, site: Site) -> None:
        """IF may have been set while an interrupt waits."""
        unit = site.unit
        self.recovery.account(unit, site.retired, site.retired > unit.count_index)
        cpu = self.cpu
        cpu.rip = site.next_rip
        instruction = site.instruction
        assert instruction is not None
        if instruction.mnemonic == Mnemonic.STI:
            cpu.interrupt_shadow = True
        else:
            cpu.rflags &= ~IOPL  # a popf of IOPL bits is a callout: this one cleared them
        self.sync.load_flags()
        self._dispatcher.update_pending()
        self._dispatcher.resume()

    def _on_indirect(self, site: Site) -> None:
        """An indirect branch ends a precise unit. RCX holds the target; RCX itself is spilled."""
        unit = site.unit
        gpr = self._context.gpr
        target_rip = gpr[1]
        gpr[1] = self.data.words[SPILL_RCX >> 3]
        if is_canonical(target_rip):
            self.recovery.account(unit, site.retired, False)
            if self._dispatcher.counting is not None:
                self._dispatcher.counting.went(unit, target_rip)
            self._dispatcher.resume_at(target_rip)
            return
        self.recovery.account(unit, site.retired - 1, False)
        self.sync.load_flags()
        self.cpu.rip = unit.guest_rip + unit.marks[-1].guest_offset & MASK64
        self._dispatcher.stepper.undo_branch(self.cpu.rip)
        self._dispatcher.deliver(GuestFault(Vector.GP, 0, reason=f"branch to {target_rip:#x}, which is not canonical"))

    def _on_returned(self, site: Site) -> None:
        """An IRETQ ran in the TC and something waits for its IF. RCX holds its target; RAX and RCX are spilled."""
        gpr, words = self._context.gpr, self.data.words
        target_rip = gpr[1]
        gpr[0], gpr[1] = words[SPILL_RAX >> 3], words[SPILL_RCX >> 3]
        self.cpu.rflags &= ~IOPL
        self._dispatcher.resume_at(target_rip)

    def _on_break(self, site: Site) -> None:
        self._dispatcher.resume_at(site.guest_rip)

    def _on_probe(self, site: Site) -> None:
        """A probe says that its breakpoint wants to be asked (it may just be unable to tell)."""
        unit = site.unit
        self.recovery.restore(unit, unit.mark_at(site.count - len(EXIT)))
        self._dispatcher.probe_left = True
        self._dispatcher.resume()

    def _on_callout(self, site: Site) -> None:
        """A sensitive instruction."""
        cpu = self.cpu
        unit = site.unit
        if site.retired + 1 != unit.length or unit.count_index > unit.length:
            self.recovery.account(unit, site.retired + 1, site.retired >= unit.count_index)
        cpu.rip = site.guest_rip
        instruction = site.instruction
        assert instruction is not None
        mnemonic = instruction.mnemonic
        self._meter.cell = self._cells[callout_key(instruction, mnemonic, cpu)]
        done = (
            self._return_to_same_level() if mnemonic == Mnemonic.IRETQ
            else mnemonic in SIMPLE and self._execute_simply(instruction, site)
        )  # fmt: skip
        if not done:
            self.sync.load_flags()
            self._dispatcher.execute(instruction, site.next_rip, site)

    def _return_to_same_level(self) -> bool:
        """The short way for an IRETQ that changes neither CS nor SS, as kernels do after interrupts and to serialise."""
        cpu = self.cpu
        if cpu.cpl or self.returns.every_return_leaves or self._dispatcher.trap_after or self._dispatcher.open_pages:
            return False
        try:
            frame = self.same_level.pop(cpu, self.memory)
        except GuestFault:
            return False  # the long way finds it again
        if frame is None:
            return False
        self.returns.remember(self.same_level.known)
        cpu.rip, cpu.rflags, cpu.gpr[4] = frame
        cpu.nmi_blocked = cpu.interrupt_shadow = False
        self._dispatcher.update_pending()
        self._dispatcher.resume()
        return True

    def _execute_simply(self, instruction: Instruction, site: Site) -> bool:
        """The short way for instructions that leave RFLAGS alone: no flags are moved. False: nothing was done yet."""
        cpu, unit, data = self.cpu, site.unit, self.data
        if self._signed[0] < 0 or self._dispatcher.trap_after or unit.count_index > unit.length or cpu.interrupt_shadow:
            return False
        next_rip = site.next_rip
        entry = (self.cache.user_entries if unit.page.user else self.cache.kernel_entries).get(next_rip)
        if entry is None:
            return False
        try:
            self.callouts.table[instruction.mnemonic](instruction)
        except GuestFault as fault:
            self.sync.load_flags()
            self._dispatcher.take_back(site)
            self._dispatcher.deliver(fault)
            return True
        sync = self.sync
        if (
            cpu.interrupt_shadow or self._dispatcher.stop_requested or self._signed[0] < 0 or self._dispatcher.watched
            or not unit.live  # it has switched SSE
        ):  # fmt: skip
            sync.load_flags()
            cpu.rip = next_rip
            self._dispatcher.update_pending()
            self._dispatcher.resume()
            return True
        if self._dispatcher.interrupt_line():
            data.bytes[PENDING] |= INTERRUPT_WAITS
            if sync.interrupts_enabled():
                sync.load_flags()
                cpu.rip = next_rip
                self._dispatcher.resume()
                return True
        elif data.bytes[PENDING] & INTERRUPT_WAITS:
            data.bytes[PENDING] &= ~INTERRUPT_WAITS
        if sync.segments_dirty:
            self._dispatcher.store_segments()
        self._q[self._rip] = entry
        self._dispatcher.load_root()
        return True
