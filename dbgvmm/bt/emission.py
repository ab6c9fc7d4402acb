"""The bytes of one unit while they are made: references to the data page, marks, ways out, the count.

What may stand in a unit is the rule of translator.py; here are the pieces that all emitters use.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from iced_x86 import Instruction, InstructionInfoFactory

from dbgvmm.bt import tcdata, units
from dbgvmm.bt.units import Edge, Mark, Site, TranslationUnit
from dbgvmm.hardware.layout import DATA_VA, KERNEL_LOOKUP_VA, MASK64, USER_DATA_VA, USER_LOOKUP_VA

EXIT = b"\xcd\x20"
"""`int 20h`: every exit site. The address behind it says which."""
I32 = Struct("<i")
U32 = Struct("<I")
U64 = Struct("<Q")
STORE_RAX, LOAD_RAX = b"\x48\x89\x05", b"\x48\x8b\x05"
STORE_RCX, LOAD_RCX = b"\x48\x89\x0d", b"\x48\x8b\x0d"
_SCALINGS = {
    9: b"\x48\x8d\x04\xc0", 5: b"\x48\x8d\x04\x80", 3: b"\x48\x8d\x04\x40", 2: b"\x48\x8d\x04\x00",
}  # fmt: skip
"""`lea rax, [rax + rax * n]` by factor: multiplication that leaves the flags alone."""


def fits_signed32(value: int) -> bool:
    """Whether a 64-bit address is the sign extension of 32 bits."""
    return value < 0x8000_0000 or value >= 0xFFFF_FFFF_8000_0000


class TscScale:
    """How the TSC follows from the instruction count, for translated rdtsc.

    ticks: TSC ticks per instruction. scale: code that multiplies RAX by them; none, and rdtsc is a callout, if no chain
    of `lea` makes that number.
    """

    __slots__ = ("scale", "ticks")

    def __init__(self, ticks: int) -> None:
        self.ticks = ticks
        scale = []
        for factor, scaling in _SCALINGS.items():
            while ticks > 1 and ticks % factor == 0:
                ticks //= factor
                scale.append(scaling)
        self.scale = tuple(scale) if ticks == 1 else ()


class Emission:
    """The bytes, marks and sites of one unit."""

    def __init__(
        self, unit: TranslationUnit, at: int, precise: bool, find: Callable[[int], TranslationUnit | None] | None,
        tsc: TscScale, info: InstructionInfoFactory,
    ) -> None:
        self.unit = unit
        self.at = at
        self.code = bytearray()
        self.precise = precise
        self.find = find
        self.tsc = tsc
        self.info = info
        user = unit.page.user
        self.user = user
        self.data_delta = (USER_DATA_VA if user else DATA_VA) - at
        self.lookup = USER_LOOKUP_VA if user else KERNEL_LOOKUP_VA
        self.marks: list[Mark] = []
        self.stubs: list[tuple[int, Site]] = []
        self.side_exits: list[tuple[int, Edge]] = []
        unit.tc_start = unit.entry = at
        unit.indirect_entry = 0
        unit.edges = []

    def data_ref(self, opcode: bytes, slot: int, immediate: bytes = b"") -> None:
        """An instruction whose memory operand is a word of the data page."""
        code = self.code
        end = len(code) + len(opcode) + 4 + len(immediate)
        code += opcode
        code += I32.pack(self.data_delta + slot - end)
        code += immediate

    def jump_to_stub(self, opcode: bytes, site: Site) -> None:
        """A jump (rel32) to the out-of-line exit of `site`."""
        self.code += opcode + b"\0\0\0\0"
        self.stubs.append((len(self.code), site))

    def mark(self, guest_offset: int, retired: int, fix: int = 0) -> None:
        """From here on, TC addresses stand for this guest state (`units.Mark`)."""
        self.marks.append(Mark(len(self.code), guest_offset, retired, fix))

    def indirect_prefix(self) -> None:
        """What a lookup arrives at: RAX and RCX were spilled by the jump."""
        self.unit.indirect_entry = self.at
        self.mark(0, 0, units.FIX_RAX | units.FIX_RCX)
        self.data_ref(LOAD_RCX, tcdata.SPILL_RCX)
        self.mark(0, 0, units.FIX_RAX)
        self.data_ref(LOAD_RAX, tcdata.SPILL_RAX)
        self.unit.entry = self.at + len(self.code)

    def count(self, index: int, flags_dead: bool) -> None:
        """Count the unit's instructions, in front of the one numbered `index`; leave if the budget does not cover them."""
        unit = self.unit
        length = unit.length
        site = Site(units.SLICE, unit, 0, retired=index)
        if flags_dead:
            self.data_ref(b"\x48\x83\x2d", tcdata.BUDGET, bytes((length,)))
            self.jump_to_stub(b"\x0f\x88", site)
        else:
            self.mark(0, 0)
            self.data_ref(STORE_RCX, tcdata.SPILL_RCX)
            self.data_ref(LOAD_RCX, tcdata.BUDGET)
            self.code += b"\x48\x8d\x49" + bytes((256 - length,))
            self.data_ref(STORE_RCX, tcdata.BUDGET)
            self.data_ref(b"\x0f\xb6\x0d", tcdata.BUDGET + 7)
            self.code += b"\xe3\x0c"  # jrcxz over the restoring exit
            self.data_ref(LOAD_RCX, tcdata.SPILL_RCX)
            self.jump_to_stub(b"\xe9", site)
            self.data_ref(LOAD_RCX, tcdata.SPILL_RCX)
        unit.resume_at = self.at + len(self.code)

    def edge(self, opcode: bytes, target: int, retired: int) -> None:
        """A direct way out after `retired` instructions: to the target's unit if there is one already, else to a stub.

        From the middle of a unit the way leads over a correction of the count, out of line.
        """
        unit = self.unit
        edge = Edge(unit, target, not self.precise, retired)
        unit.edges.append(edge)
        if retired != unit.length and not self.precise:
            self.side_exits.append((len(self.code) + len(opcode), edge))
            self.code += opcode + b"\0\0\0\0"
            return
        edge.patch = self.at + len(self.code) + len(opcode)
        self.jump_to_stub(opcode, edge)

    def _side_exit(self, position: int, edge: Edge) -> None:
        """Count back what the unit counted ahead, flags untouched, and jump on."""
        code, unit = self.code, self.unit
        code[position : position + 4] = I32.pack(len(code) - position - 4)
        counted = unit.length if edge.retired > unit.count_index else 0
        here = unit.length - 1
        self.mark(0, here, 0)
        self.data_ref(STORE_RAX, tcdata.SPILL_RAX)
        self.data_ref(LOAD_RAX, tcdata.BUDGET)
        code += b"\x48\x8d\x40" + bytes((counted - edge.retired & 0xFF,))
        self.data_ref(STORE_RAX, tcdata.BUDGET)
        self.data_ref(LOAD_RAX, tcdata.SPILL_RAX)
        edge.patch = self.at + len(code) + 1
        self.jump_to_stub(b"\xe9", edge)

    def exit_site(self, kind: int, instruction: Instruction, raw: bytes, guest: int, number: int) -> Site:
        """The site of an exit that is about this instruction."""
        rip = self.unit.guest_rip + guest & MASK64
        return Site(kind, self.unit, rip, rip + len(raw) & MASK64, instruction, number)

    def callout(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """An exit in which the monitor carries out the instruction."""
        self.code += EXIT
        self.stubs.append((-len(self.code), self.exit_site(units.CALLOUT, instruction, raw, guest, number)))

    def finish(self) -> tuple[bytes, list[Site]]:
        """Append the stubs, link what can be linked at once, and give the addresses behind the exits to the sites."""
        code, at, unit = self.code, self.at, self.unit
        for position, edge in self.side_exits:
            self._side_exit(position, edge)
        sites: list[Site] = []
        for position, site in self.stubs:
            if position < 0:
                site.count = at - position
                sites.append(site)
                continue
            stub = len(code)
            code += EXIT
            site.count = at + len(code)
            sites.append(site)
            destination = at + stub
            if type(site) is Edge:
                site.stub = destination
                target = self.find(site.guest_rip) if self.find is not None and site.linkable else None
                if target is not None and target.page.user == self.user:
                    site.target = target
                    target.incoming.append(site)
                    destination = target.entry
            code[position - 4 : position] = I32.pack(destination - at - position)
        unit.tc_end = at + len(code)
        unit.marks = self.marks
        unit.mark_offsets = [mark.tc_offset for mark in self.marks]
        return bytes(code), sites
