"""The shadow page tables as objects to look at: `shadow roots`, `walk`, `frame`, `traces`, `check`. The words are those of
mmu/; docs/inside.md explains them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.memory import entry_words
from dbgvmm.commands.parameters import Address
from dbgvmm.commands.plural import several
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import is_canonical
from dbgvmm.debug.inside.check import check_machine
from dbgvmm.hardware.layout import PAGE_SHIFT, PAGE_SIZE
from dbgvmm.mmu.consistency import Consistency
from dbgvmm.mmu.differences import state_of
from dbgvmm.mmu.inspect import ShadowLevel, ShadowTranslation, shadow_levels, shadow_walk
from dbgvmm.mmu.reverse import GuestMapping, ShadowMapping, guest_mappings, known_spaces, shadow_mappings
from dbgvmm.mmu.roots import Root
from dbgvmm.mmu.spaces import EvictedInfo, RootInfo, evicted_infos, root_infos, root_of
from dbgvmm.mmu.trace_kinds import trace_words
from dbgvmm.mmu.walk import WalkReport
from dbgvmm.mmu.writers import NOBODY

_SHOWN_PLACES = 4
_STATES = {
    "in step": "the shadow gives all that the guest's tables give",
    "pending": "not in the shadow: the next access is a hidden fault",
    "not accessed": "not in the shadow: the guest's A bit is clear, and the first access sets it",
    "lazy": "not in the shadow: the guest's entry was written, and its shadow dropped",
    "clean": "read-only in the shadow: the guest's D bit is clear, and the first write sets it",
    "traced": "read-only in the shadow on purpose: the frame is traced",
    "hidden": "not in the shadow on purpose: the frame is watched",
    "untraced": "read-only in the shadow: the frame was traced, and the next write makes it writable",
    "flipped": "mapped for the other privilege level's last access (CR0.WP=0)",
}
"""What mmu/differences.py calls them, in a sentence."""


def space(session: Session, cr3: int | None) -> Root:
    """The root of an address space. Raises CommandError."""
    try:
        return root_of(session.machine.mmu, cr3)
    except LookupError as error:
        raise CommandError(str(error.args[0])) from error


def writer(session: Session, rip: int) -> str:
    """A guest instruction by its place; or who else it was."""
    return "the monitor" if rip == NOBODY else session.name(rip)


def _level(name: str, index: int, entry: int) -> tuple[str, str, str, str]:
    return name, f"[{index}]", f"{entry:016x}", entry_words(entry)


@dataclass(frozen=True)
class RootTable:
    """The roots, last used first; and the last ones that were given back."""

    roots: tuple[RootInfo, ...]
    evicted: tuple[EvictedInfo, ...]
    created: int
    limit: int

    def __str__(self) -> str:
        rows = [
            (
                "*" if info.current else "", f"{info.number}", "paging off" if info.cr3 is None else f"{info.cr3:#x}",
                f"{info.root:#x}", "" if info.wp else "WP=0", f"#{info.born:,}", f"{info.tables:,}", f"{info.shared:,}",
                f"{info.mapped:,}", f"{info.windows:,}",
            )
            for info in self.roots
        ]  # fmt: skip
        header = ("", "no.", "guest CR3", "shadow root", "", "made at", "tables", "shared", "pages", "windows")
        lines = [columns(rows, header, right=(1, 5, 6, 7, 8, 9))]
        kept = len(self.roots)
        lines.append(f"{kept} kept (of {self.limit} at most), {self.created} made, {self.created - kept} given back")
        lines += [
            f"given back: no. {gone.number}, CR3 {'none' if gone.cr3 is None else f'{gone.cr3:#x}'}, "
            f"lived from #{gone.born:,} to #{gone.died:,}"
            for gone in self.evicted[-_SHOWN_PLACES:]
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class ShadowReport:
    """The guest's walk of an address and the hardware's. found: None if the hardware would miss.

    state: how they differ (mmu/differences.py has the words); "" if the guest does not map the address.
    """

    va: int
    cr3: int | None
    root: int
    guest: WalkReport
    levels: tuple[ShadowLevel, ...]
    found: ShadowTranslation | None
    state: str
    detail: str

    def __str__(self) -> str:
        nothing = "", "", "", ""
        guest = [nothing, *(_level(x.name, x.index, x.entry) for x in self.guest.levels)]
        shadow = [_level(x.name, x.index, x.entry) for x in self.levels]
        rows = [(*left, "|", *right) for left, right in zip_longest(guest, shadow, fillvalue=nothing)]
        title = "paging off" if self.cr3 is None else f"guest, CR3 {self.cr3:#x}"
        return f"{title} | shadow, root {self.root:#x}\n{columns(rows)}\n{self._guest_end()}\n{self._shadow_end()}"

    def _guest_end(self) -> str:
        report = self.guest
        if report.gpa is None:
            return f"guest:  {self.va:#x} is not mapped: {report.problem}"
        words = [
            "user" if report.user else "supervisor", "writable" if report.writable else "read-only",
            "executable" if report.executable else "no-execute",
        ]  # fmt: skip
        return f"guest:  {self.va:#x} -> physical {report.gpa:#x}, {', '.join(words)}"

    def _shadow_end(self) -> str:
        if self.found is None:
            fault = "hidden" if self.guest.gpa is not None else "true"
            text = f"{self.va:#x} is not in the shadow: the next access is a {fault} fault"
        else:
            words = [
                "user" if self.found.user else "supervisor", "writable" if self.found.writable else "read-only",
                "executable" if self.found.executable else "no-execute",
            ]  # fmt: skip
            text = f"{self.va:#x} -> physical {self.found.physical:#x}, {', '.join(words)}"
        lines = [f"shadow: {text}"]
        if self.state:
            lines.append(f"{self.state}: {_STATES[self.state]}{f' ({self.detail})' if self.detail else ''}")
        return "\n".join(lines)


@dataclass(frozen=True)
class FrameReport:
    """What maps a frame (its address). guest: leaf entries of the guest's, in all address spaces that have a shadow.
    shadow: shadow entries. cut: there are more than are shown. traced: why, or ""."""

    gpa: int
    guest: tuple[GuestMapping, ...]
    shadow: tuple[ShadowMapping, ...]
    cut: bool
    traced: str

    def __str__(self) -> str:
        lines = [f"frame {self.gpa:#x}: {f'traced ({self.traced})' if self.traced else 'not traced'}"]
        rows = [
            (f"CR3 {x.cr3:#x}", f"{x.va:#x}", f"page of {x.size >> 10} KiB", f"entry at {x.entry_gpa:#x}", f"{x.entry:016x}",
             entry_words(x.entry))
            for x in self.guest
        ]  # fmt: skip
        mapped = several(len(self.guest), "address", "addresses")
        lines.append(f"guest: mapped at {mapped}{', and more' if self.cut else ''}")
        lines.append(columns(rows))
        lines.append(f"shadow: {several(len(self.shadow), 'entry', 'entries')}")
        shadow = []
        for item in self.shadow:
            places = [f"{place.va:#x}" for place in item.places[:_SHOWN_PLACES]]
            more = f" and {len(item.places) - _SHOWN_PLACES} more" if len(item.places) > _SHOWN_PLACES else ""
            where = "all large pages of its region" if item.large else (", ".join(places) or "no address") + more
            shadow.append((f"{item.entry:016x}", entry_words(item.entry), where))
        lines.append(columns(shadow))
        return "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class Trace:
    """A traced frame (its address): why, what it has cost since power-on, who wrote last and at which count.

    faults: trace faults. stores: by adapted code, without a fault. monitor: writes of the monitor for the guest, and
    debuggers'. writer: the guest instruction, -1 for the monitor, None if nobody has written yet.
    """

    gpa: int
    why: str
    faults: int
    stores: int
    monitor: int
    writer: int | None
    when: int
    place: str


@dataclass(frozen=True)
class TraceReport:
    """The traced guest frames, in order."""

    traces: tuple[Trace, ...]

    def __str__(self) -> str:
        if not self.traces:
            return "no frame is traced"
        rows: list[tuple[str, ...]] = []
        at = 0
        while at < len(self.traces):
            first = self.traces[at]
            end = at + 1
            while end < len(self.traces) and first.writer is None and self._continues(self.traces[end - 1], self.traces[end]):
                end += 1
            last = self.traces[end - 1].gpa + PAGE_SIZE - 1
            written = () if first.writer is None else (
                f"{first.faults:,}", f"{first.stores:,}", f"{first.monitor:,}", f"{first.place}, #{first.when:,}"
            )  # fmt: skip
            rows.append((f"{first.gpa:#x} to {last:#x}", str(end - at), first.why, *written))
            at = end
        header = ("physical", "frames", "why", "faults", "adapted stores", "by the monitor", "last writer")
        return columns(rows, header, right=(1, 3, 4, 5))

    @staticmethod
    def _continues(one: Trace, other: Trace) -> bool:
        return other.gpa == one.gpa + PAGE_SIZE and other.why == one.why and other.writer is None


@dataclass(frozen=True)
class CheckReport:
    """What the consistency check looked at and found."""

    result: Consistency

    def __str__(self) -> str:
        result = self.result
        looked = ", ".join(f"{number:,} {name}" for name, number in result.checked.items())
        lines = [f"checked: {looked}"]
        lines += [f"{'permitted' if x.permitted else 'ERROR'} ({x.rule}): {x.text}" for x in result.findings]
        if not result.errors:
            permitted = len(result.findings)
            stale = f" but what a TLB may keep ({permitted})" if permitted else ""
            lines.append(f"nothing is wrong{stale}: the shadow says what the guest's tables say, and no more")
        else:
            lines.append(f"{len(result.errors)} errors: please report them, with what the guest did")
        return "\n".join(lines)


@command("shadow roots")
def shadow_roots(session: Session) -> RootTable:
    """Show the shadow's address spaces: one root for each guest CR3, kept over CR3 writes.

    The one used last comes first, and * marks the current one. `tables` are the shadow pages that hang on a root, `shared`
    those of them that hang on others too (kernels map themselves everywhere), `pages` the 4 KiB pages mapped by page tables,
    and `windows` its own TC pages that may be executed.

    For example:

        shadow roots
    """
    mmu = session.machine.mmu
    return RootTable(tuple(root_infos(mmu)), tuple(evicted_infos(mmu)), mmu.roots.created, mmu.roots.limit)


@command("shadow walk", aliases=("info shadow", "shadow"))
def shadow_walk_command(session: Session, address: Address, *, cr3: Address | None = None) -> ShadowReport:
    """Walk a linear ADDRESS in the guest's tables and in the shadow, side by side, with every flag.

    CR3 chooses another address space. The last line says how the two differ and why: pending, not accessed, lazy, clean,
    traced, hidden, untraced, flipped (docs/inside.md).

    For example:

        shadow walk rip
        shadow walk rsp --cr3 cr3
        info shadow rip
    """
    mmu = session.machine.mmu
    root = space(session, cr3)
    if not is_canonical(address) and root.page is not None:
        raise CommandError(f"{address:#x} is not a canonical address: the guest cannot have it, and #GP is what it gets")
    try:
        levels = shadow_levels(mmu.engine.frames, root.pml5, address)
        found = shadow_walk(mmu.engine.frames, root.pml5, address)
    except ValueError as error:
        raise CommandError(f"{error}: `shadow check` says more") from error
    difference = state_of(mmu, root, address, session.name)
    state, detail = ("", "") if difference is None else (difference.state, difference.detail)
    guest = mmu.report_in(root, address)
    return ShadowReport(
        address, None if root.page is None else root.page.gfn << PAGE_SHIFT, root.pml5, guest, levels, found, state, detail
    )


@command("shadow frame")
def shadow_frame(session: Session, gpa: Address) -> FrameReport:
    """Show what maps the frame of a guest-physical address: the guest's mappings and the shadow's entries.

    Looked through are the address spaces that have a shadow (`shadow roots`). Entries of large pages are in one region table,
    which all large pages of the region share.

    For example:

        shadow frame 0x106000
    """
    mmu = session.machine.mmu
    if gpa >= mmu.ram.size and gpa >> PAGE_SHIFT not in mmu.rmap.slots:
        raise CommandError(f"physical {gpa:#x} is outside RAM, which ends at {mmu.ram.size:#x}, and nothing maps it")
    frame = gpa >> PAGE_SHIFT
    guest, cut = guest_mappings(mmu, frame, known_spaces(mmu))
    return FrameReport(
        frame << PAGE_SHIFT, tuple(guest), tuple(shadow_mappings(mmu, frame)), cut, trace_words(mmu.traces.kinds.get(frame, 0))
    )


@command("shadow traces", aliases=("info traces", "traces"))
def shadow_traces(session: Session) -> TraceReport:
    """Show the guest frames whose writes the monitor sees, why, what that has cost, and who wrote last.

    Traced are shadowed page tables, translated code, and what a debugger watches. A cost is a trace fault, or an exit of a
    store that was adapted since it kept faulting.

    For example:

        shadow traces
    """
    mmu = session.machine.mmu
    found = []
    for frame, kinds in sorted(mmu.traces.kinds.items()):
        noted = mmu.writers.frames.get(frame)
        if noted is None:
            found.append(Trace(frame << PAGE_SHIFT, trace_words(kinds), 0, 0, 0, None, 0, ""))
        else:
            found.append(Trace(
                frame << PAGE_SHIFT, trace_words(kinds), noted.faults, noted.stores, noted.monitor, noted.rip, noted.count,
                writer(session, noted.rip),
            ))  # fmt: skip
    return TraceReport(tuple(found))


@command("shadow check")
def shadow_check(session: Session) -> CheckReport:
    """Check that the shadow is what it must be: no entry and no right that the guest's tables do not give.

    Also: what is traced is not writable, the reverse map is complete, code windows are open only where the code is mapped,
    the monitor's own region is intact, and each of its frames is used once. What a TLB may keep too is permitted, and said.

    For example:

        shadow check
    """
    return CheckReport(check_machine(session.machine))
