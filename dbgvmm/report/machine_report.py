"""The report of a machine: which sections there are, and the data that each is made from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from dbgvmm.guest_os import GuestOsError
from dbgvmm.hardware.layout import PAGE_SHIFT
from dbgvmm.mmu.inspect import shadow_ranges
from dbgvmm.mmu.mappings import Limit
from dbgvmm.mmu.roots import Root
from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.flame_svg import FlameOptions, flame_fragment
from dbgvmm.profile.history import RunRecord
from dbgvmm.profile.mix import instruction_mix
from dbgvmm.profile.moments import POWER_ON
from dbgvmm.profile.profile import Profile, machine_profile
from dbgvmm.profile.who_ran import who_ran
from dbgvmm.report.boot_timeline import boot_timeline
from dbgvmm.report.ledger_chart import ledger_chart
from dbgvmm.report.page import Fact, Section, page
from dbgvmm.report.regions import known_regions
from dbgvmm.report.shadow_map import MappedSpace, mapped_areas, shadow_maps
from dbgvmm.report.tables import functions_table, ledger_table, mix_table
from dbgvmm.report.tc_map import tc_map, tc_parts

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

MOST_PAGES: Final = 1 << 19
"""Mappings of a shadow that are drawn, at most."""
MOST_SPACES: Final = 6
"""Address spaces whose shadows are drawn."""
_FLAME_WIDTH: Final = 0.3
"""Pixels of the narrowest frame in the flame graph: what is narrower can be seen in `sample save`'s."""


def machine_report(machine: Machine) -> bytes:
    """One HTML file about the machine as it is now, and about the run so far as it was sampled and counted."""
    kernel = machine.kernel
    title = kernel.name if kernel is not None else "a machine"
    stop = machine.last_stop
    subtitle = f"after {machine.count:,} instructions" + (f": {stop.text}" if stop is not None else "")
    data = _Data(machine)
    makers = (_timeline, _ledger, _flame, _functions, _mix, _translation_cache, _shadow)
    sections = [section for section in (make(data) for make in makers) if section is not None]
    return page(title, subtitle, _facts(machine), sections)


@dataclass
class _Data:
    """What sections are made from, each collected once."""

    machine: Machine

    @cached_property
    def profile(self) -> Profile:
        """The samples."""
        return machine_profile(self.machine)

    @cached_property
    def record(self) -> RunRecord | None:
        """The run over time; None if that was not recorded."""
        history = self.machine.sampler.history
        record = None if history is None else history.record()
        return record if record is not None and len(record.points) > 1 else None

    @cached_property
    def counts(self) -> ExecutionCounts | None:
        """Executions; None if nothing was counted."""
        counters = self.machine.counters
        return counters.counts() if counters.total else None


def _facts(machine: Machine) -> list[Fact]:
    stats = machine.stats()
    seconds = machine.clock.now_ns() / 1e9
    return [
        Fact("instructions", f"{machine.count:,}"),
        Fact("guest's clock", f"{seconds:,.3f} s"),
        Fact("host time", f"{machine.seconds_total:,.2f} s"),
        Fact("exits", f"{int(stats['exits']):,}"),
        Fact("translation units", f"{int(stats['translation_units']):,}"),
        Fact("page faults of the guest", f"{int(stats['true_faults']):,}"),
        Fact("hidden faults", f"{int(stats['hidden_faults']):,}"),
        Fact("interrupts", f"{int(stats['interrupts']):,}"),
    ]


def _timeline(data: _Data) -> Section | None:
    record = data.record
    if record is None:
        return None
    samples = data.machine.sampler.samples
    runners = who_ran(samples, record, data.machine.sampler.tail())
    note = (
        "What the guest did when. The axis is its own time: instructions. Each mark of the console is a line that was printed; "
        "those that stand alone are written out. Below: who ran (orange in the kernel, blue in user code), and how often what "
        "happened, each lane with its own scale."
    )
    if samples.without_order:
        note += f" Who ran is not known of the last {samples.without_order:,} samples: there was no room."
    ns = float(data.machine.config.ns_per_insn)
    return Section("timeline", "Boot timeline", note, boot_timeline(record, runners, ns))


def _ledger(data: _Data) -> Section:
    record = data.record
    if record is None:
        note = "What the monitor did since power-on. It was not recorded over time: `sample start` does that."
        return Section("ledger", "Exit ledger", note, ledger_table(data.machine.exits.since()))
    whole = record.points[-1] - record.points[0]
    since = "" if record.points[0].count == POWER_ON.count else f" since instruction {record.points[0].count:,}"
    note = (
        "What the monitor did, over the guest's time, and what it cost the host. VMM time is told apart from translated code, "
        f"the guest's own. Point at a moment for its numbers, and at a name to see it alone. The table is of all{since}."
    )
    return Section("ledger", "Exit ledger over time", note, f"{ledger_chart(record)}<h3>Ledger</h3>\n{ledger_table(whole)}")


def _flame(data: _Data) -> Section | None:
    if not data.profile.stacks:
        return None
    note = (
        "Where the guest's time went: each box is a function, as wide as its share of the instructions with all that it has "
        "called. Click one to enlarge it. VMM time shows where the host's time in the monitor came from."
    )
    options = FlameOptions("Stacks", "icicle", least_width=_FLAME_WIDTH)
    return Section("flame", "Flame graph", note, flame_fragment(data.profile, options), tall=True)


def _functions(data: _Data) -> Section | None:
    if not data.profile.stacks:
        return None
    note = (
        "By what they executed themselves, and with all that they called: shares of the instructions sampled. VMM ms: the "
        "host's time in the monitor before samples in them."
    )
    return Section("functions", "Hot functions", note, functions_table(data.profile))


def _mix(data: _Data) -> Section | None:
    if data.counts is None:
        return None
    note = "What was executed, counted exactly. Each share is of all instructions, that of user code is of its row."
    return Section("mix", "Instruction mix", note, mix_table(instruction_mix(data.counts)))


def _translation_cache(data: _Data) -> Section:
    machine = data.machine
    strength = "the fuller the stronger" if data.counts is None else "the stronger, the more was executed in it (logarithms)"
    note = (
        f"Each cell is a page of the translation cache: orange for kernel code, blue for user code, {strength}; "
        "violet are the monitor's own. Point at one to see which code it holds."
    )
    body = tc_map(tc_parts(machine.cache, machine.symbols, data.counts))
    return Section("tc", "Translation cache", note, body, tall=True)


def _shadow(data: _Data) -> Section | None:
    machine, mmu = data.machine, data.machine.mmu
    regions = known_regions(machine)
    tasks = _tasks_by_cr3(machine)
    spaces, cut = [], False
    for root in _roots(machine):
        limit = Limit(MOST_PAGES)
        ranges = list(shadow_ranges(machine.engine.frames, root, limit))
        cut |= limit.cut
        cr3 = None if root.page is None else root.page.gfn << PAGE_SHIFT
        if ranges:
            areas = mapped_areas(ranges, mmu.traces.kinds, machine.symbols, regions, cr3)
            spaces.append(MappedSpace(_space_title(root, tasks, root is mmu.current), areas))
    if not spaces:
        return None
    note = (
        "What the hardware's page tables map: boxes are ranges of addresses with equal rights, their sizes logarithms. Orange "
        "is the kernel's, blue the user's, hatched what may not be written (yet); a red edge says that writes are traced. "
        "Click an area to enlarge it."
    )
    if len(spaces) < len(mmu.roots.by_key):
        note += f" The {len(spaces)} that were used last, of {len(mmu.roots.by_key)} that are kept, can be chosen."
    if cut:
        note += f" Of each, only the first {MOST_PAGES:,} pages are drawn."
    return Section("shadow", "Shadow page tables", note, shadow_maps(spaces))


def _roots(machine: Machine) -> list[Root]:
    """The current root first, then those that were used last."""
    mmu = machine.mmu
    others = [root for root in reversed(mmu.roots.by_key.values()) if root is not mmu.current]
    return [mmu.current, *others][:MOST_SPACES]


def _tasks_by_cr3(machine: Machine) -> dict[int, list[str]]:
    """Names of tasks by the frame of their page table, as far as the guest's system can be asked."""
    found: dict[int, list[str]] = {}
    with suppress(GuestOsError):
        for task in machine.os.tasks().items:
            if task.cr3 is not None:
                found.setdefault(task.cr3 >> PAGE_SHIFT, []).append(f"{task.name}-{task.pid}")
    return found


def _space_title(root: Root, tasks: dict[int, list[str]], current: bool) -> str:
    if root.page is None:
        return "paging off" + ", current" * current
    names = tasks.get(root.page.gfn, [])
    who = f" ({', '.join(names[:3])}{', ...' * (len(names) > 3)})" if names else ""
    return f"CR3 {root.page.gfn << PAGE_SHIFT:#x}{who}" + ", CR0.WP off" * bool(root.key[1]) + ", current" * current


__all__ = ["MOST_PAGES", "MOST_SPACES", "machine_report"]
