"""What is known about translated code: code pages, translation units, their edges and exit sites.

A *code page* is one guest page of code as it is mapped somewhere: the pair (virtual page, frame), for kernel or user.
Its translations live in TC pages of their own, which the MMU makes executable only while that mapping holds (see
mmu/windows.py). So a chain between two TUs needs no check: if the target's page is mapped otherwise, the jump faults.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from iced_x86 import Decoder, Instruction

if TYPE_CHECKING:
    from dbgvmm.bt.guards import Guard

# What a person wants to see as the kind of an exit site.
EDGE: Final = 0
CALLOUT: Final = 1
SLICE: Final = 2
LOOKUP_MISS: Final = 3
BREAK: Final = 4
PENDING: Final = 5
INDIRECT: Final = 6
STORE: Final = 7
RETURNED: Final = 8
PROBE: Final = 9

FIX_NONE: Final = 0
FIX_RAX: Final = 1
FIX_RCX: Final = 2
FIX_SPILL: Final = 16
"""FIX_SPILL + n: register n is in the spill slot of rewritten RIP-relative operands."""


class CodePage:
    """One guest page of code (or two, for a unit that crosses) under one mapping, and its translations."""

    __slots__ = ("va", "pages", "user", "is_global", "key", "units", "precise", "tc_pages", "fill", "writes", "code_map",
                 "accused", "guilty", "beside", "guards")

    def __init__(
        self, va: int, pages: tuple[tuple[int, int], ...], user: bool, is_global: bool, key: tuple[object, ...] = ()
    ) -> None:
        self.va = va
        self.key = key
        """What the cache knows it by."""
        self.pages = pages
        self.user = user
        self.is_global = is_global
        self.units: dict[int, TranslationUnit] = {}
        self.precise: dict[tuple[int, int], TranslationUnit] = {}
        self.tc_pages: list[TcPage] = []
        self.fill = 0
        self.writes = 0
        self.accused: dict[int, int] = {}
        """Trace faults of stores, by offset."""
        self.guilty: dict[int, int] = {}
        """Offsets of stores that are translated as callouts: how often in a row nothing was traced (see adaptation.py)."""
        self.beside: dict[int, int] = {}
        """Accesses to watched pages that were not to what is watched, by the offset of the instruction."""
        self.guards: dict[int, Guard] = {}
        """Offsets of instructions that are translated with a guard (see guards.py)."""
        self.code_map = 0
        """Bit n: the page's byte n has been translated (a hint: units that died leave theirs set)."""


class TcPage:
    """One page of the TC: the code page that owns it and the units in it, by address."""

    __slots__ = ("index", "owner", "starts", "units", "sites")

    def __init__(self, index: int, owner: CodePage) -> None:
        self.index = index
        self.owner = owner
        self.starts: list[int] = []
        self.units: list[TranslationUnit] = []
        self.sites: list[int] = []

    def unit_at(self, tc_rip: int) -> TranslationUnit | None:
        """The unit whose translation covers a TC address."""
        at = bisect_right(self.starts, tc_rip) - 1
        if at < 0:
            return None
        unit = self.units[at]
        return unit if tc_rip < unit.tc_end else None


class Mark(NamedTuple):
    """Which guest state a TC address stands for: before the guest instruction at `guest_offset` (from the unit's
    start), after `retired` instructions of the unit, once the registers named by `fix` are put back."""

    tc_offset: int
    guest_offset: int
    retired: int
    fix: int


RUN: Final = 0x80
"""In the place of `fix` in a mark's state: copied instructions begin here, and have no marks of their own."""


def mark_state(guest_offset: int, retired: int, fix: int = FIX_NONE) -> int:
    """All of a mark but its address, in one number: units keep their marks so, for few are ever looked at."""
    return guest_offset << 16 | retired << 8 | fix


class TranslationUnit:
    """Straight-line guest code and its translation.

    `entry` is where chains arrive, `indirect_entry` where lookups arrive (it reloads RAX and RCX first). In front of the
    instruction with index `count_index` the unit counts all its `length` instructions at once; `resume_at` is the TC
    address behind that. Precise units count nothing themselves: both are beyond any unit.
    """

    __slots__ = (
        "guest_rip", "guest_bytes", "length", "page", "tc_page", "tc_start", "entry", "indirect_entry", "tc_end",
        "count_index", "mark_offsets", "mark_states", "edges", "incoming", "sites", "live", "why_dead", "resume_at",
        "probes", "born",
    )

    def __init__(self, guest_rip: int, page: CodePage) -> None:
        self.guest_rip = guest_rip
        self.guest_bytes = b""
        self.length = 0
        self.page = page
        self.tc_page: TcPage | None = None
        self.tc_start = 0
        self.entry = 0
        self.indirect_entry = 0
        self.tc_end = 0
        self.count_index = 0
        self.resume_at = 0
        self.mark_offsets: list[int] = []
        self.mark_states: list[int] = []
        self.edges: list[Edge] = []
        self.incoming: list[Edge] = []
        self.sites: list[int] = []
        self.live = True
        self.why_dead = ""
        self.born = 0
        """The instruction count when it was made."""
        self.probes: tuple[tuple[int, int], ...] = ()
        """TC addresses from which to which a probe's body reaches; the second is also where it leaves to the monitor."""

    @property
    def marks(self) -> list[Mark]:
        """All marks, in the order of their TC addresses."""
        return list(self._marks_from(0))

    def mark_at(self, tc_rip: int) -> Mark:
        """The guest state that TC address `tc_rip` stands for."""
        offset = tc_rip - self.tc_start
        return self._marks_until(bisect_right(self.mark_offsets, offset) - 1, offset + 1)[-1]

    def mark_behind(self, tc_rip: int) -> Mark | None:
        """The first mark behind TC address `tc_rip` that stands for a later guest instruction."""
        offset = tc_rip - self.tc_start
        guest = self.mark_at(tc_rip).guest_offset
        marks = self._marks_from(bisect_right(self.mark_offsets, offset) - 1)
        return next((mark for mark in marks if mark.tc_offset > offset and mark.guest_offset > guest), None)

    def _marks_from(self, first: int) -> Iterator[Mark]:
        offsets = self.mark_offsets
        for at in range(first, len(offsets)):
            yield from self._marks_until(at, offsets[at + 1] if at + 1 < len(offsets) else self.tc_end - self.tc_start)

    def _marks_until(self, at: int, end: int) -> list[Mark]:
        """The mark number `at`; if it begins a run, also those of the copied instructions that start before TC offset `end`.

        A run's instructions are as long in the TC as in the guest.
        """
        tc_offset, state = self.mark_offsets[at], self.mark_states[at]
        guest, retired, fix = state >> 16, state >> 8 & 0xFF, state & 0xFF
        if fix != RUN or end == tc_offset + 1:
            return [Mark(tc_offset, guest, retired, fix & ~RUN)]
        marks = []
        shift = tc_offset - guest
        decoder = Decoder(64, self.guest_bytes, ip=0)
        decoder.position = decoder.ip = guest
        while decoder.position + shift < end:
            marks.append(Mark(decoder.position + shift, decoder.position, retired, FIX_NONE))
            decoder.decode()
            retired += 1
        return marks

    def __repr__(self) -> str:
        return f"TU({self.guest_rip:#x}, {self.length} insns, TC {self.tc_start:#x}..{self.tc_end:#x})"


class Site:
    """An exit site: the translated code behind it does `int`, and this says why."""

    __slots__ = ("kind", "unit", "guest_rip", "next_rip", "instruction", "retired", "count")

    def __init__(
        self, kind: int, unit: TranslationUnit, guest_rip: int, next_rip: int = 0, instruction: Instruction | None = None,
        retired: int = 0,
    ) -> None:
        self.kind = kind
        self.unit = unit
        self.guest_rip = guest_rip
        self.next_rip = next_rip
        self.instruction = instruction
        self.retired = retired
        self.count = 0


class Edge(Site):
    """A direct way out of a unit: a jump whose displacement at `patch` leads to `stub` (exit) or to the target unit."""

    __slots__ = ("patch", "stub", "target", "linkable")

    def __init__(self, unit: TranslationUnit, target_rip: int, linkable: bool, retired: int) -> None:
        # Site.__init__ written out: there are more edges than anything else.
        self.kind = EDGE
        self.unit = unit
        self.guest_rip = target_rip
        self.next_rip = 0
        self.instruction = None
        self.retired = retired
        self.count = 0
        self.patch = 0
        self.stub = 0
        self.target: TranslationUnit | None = None
        self.linkable = linkable
