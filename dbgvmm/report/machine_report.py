"""The report of a machine: which sections there are, and the data that each is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.mmu.inspect import shadow_ranges
from dbgvmm.mmu.mappings import Limit
from dbgvmm.profile.flame_svg import FlameOptions, flame_fragment
from dbgvmm.profile.profile import machine_profile
from dbgvmm.report.page import Fact, Section, page
from dbgvmm.report.shadow_map import mapped_areas, shadow_map
from dbgvmm.report.tc_map import tc_map, tc_parts

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

MOST_PAGES: Final = 1 << 20
"""Mappings of the shadow that are drawn, at most."""


def machine_report(machine: Machine) -> bytes:
    """One HTML file about the machine as it is now, and its sampler's samples if there are some."""
    kernel = machine.kernel
    title = kernel.name if kernel is not None else "a machine"
    stop = machine.last_stop
    subtitle = f"after {machine.count:,} instructions" + (f": {stop.text}" if stop is not None else "")
    makers = (_flame, _translation_cache, _shadow)
    sections = [section for section in (make(machine) for make in makers) if section is not None]
    return page(title, subtitle, _facts(machine), sections)


def _facts(machine: Machine) -> list[Fact]:
    stats = machine.stats()
    seconds = machine.clock.now_ns() / 1e9
    return [
        Fact("instructions", f"{machine.count:,}"),
        Fact("guest time", f"{seconds:,.3f} s"),
        Fact("host time", f"{machine.seconds_total:,.2f} s"),
        Fact("exits", f"{int(stats['exits']):,}"),
        Fact("translation units", f"{int(stats['translation_units']):,}"),
        Fact("page faults of the guest", f"{int(stats['true_faults']):,}"),
        Fact("hidden faults", f"{int(stats['hidden_faults']):,}"),
        Fact("interrupts", f"{int(stats['interrupts']):,}"),
    ]


def _flame(machine: Machine) -> Section | None:
    profile = machine_profile(machine)
    if not profile.stacks:
        return None
    note = (
        "Where the guest's time went: each box is a function, as wide as its share of the instructions with all that it has "
        "called. Click one to enlarge it. VMM time shows where the host's time in the monitor came from."
    )
    return Section("flame", "Flame graph", note, flame_fragment(profile, FlameOptions("Stacks", "icicle")))


def _translation_cache(machine: Machine) -> Section:
    note = (
        "Each cell is a page of the translation cache: orange for kernel code, blue for user code, the fuller the stronger; "
        "violet are the monitor's own. Point at one to see which code it holds."
    )
    return Section("tc", "Translation cache", note, tc_map(tc_parts(machine.cache, machine.symbols)))


def _shadow(machine: Machine) -> Section | None:
    mmu = machine.mmu
    limit = Limit(MOST_PAGES)
    ranges = list(shadow_ranges(machine.engine.frames, mmu.current, limit))
    if not ranges:
        return None
    note = (
        f"What the hardware's page tables map for CR3 {machine.cpu.cr3:#x}: boxes are ranges of addresses with equal rights, "
        "their sizes logarithms. Orange is the kernel's, blue the user's, hatched what may not be written (yet); a red edge "
        "says that writes are traced. Click an area to enlarge it."
    )
    if limit.cut:
        note += f" Only the first {MOST_PAGES:,} pages are drawn."
    return Section("shadow", "Shadow page tables", note, shadow_map(mapped_areas(ranges, mmu.traces.kinds, machine.symbols)))


__all__ = ["MOST_PAGES", "machine_report"]
