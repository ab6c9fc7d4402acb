"""The bytes of one unit while they are made: references to the data page, marks, ways out, the count.

What may stand in a unit is the rule of translator.py; here are the pieces that all emitters use.
"""

from __future__ import annotations

from struct import Struct

from iced_x86 import Instruction, InstructionInfoFactory

from dbgvmm.bt import tcdata, units
from dbgvmm.bt.units import Edge, Site, TranslationUnit, mark_state
from dbgvmm.hardware.layout import DATA_VA, KERNEL_LOOKUP_VA, MASK64, USER_DATA_VA, USER_LOOKUP_VA

EXIT = b"\xcd\x20"
"""`int 20h`: every exit site. The address behind it says which."""
I32 = Struct("<i")
U32 = Struct("<I")
U64 = Struct("<Q")
STORE_RAX, LOAD_RAX = b"\x48\x89\x05", b"\x48\x8b\x05"
STORE_RCX, LOAD_RCX = b"\x48\x89\x0d", b"\x48\x8b\x0d"
SAVE_FLAGS = b"\x9f\x0f\x90\xc0"
LOAD_FLAGS = b"\x04\x7f\x9e"
"""`lahf; seto al` and `add al, 7Fh; sahf`: all six arithmetic flags into AX and back, without a stack."""
_COUNT_FLAGS_DEAD = Struct("<3siB2si")
_COUNT_FLAGS_LIVE = Struct("<3si3si3sB3si3si2s3siBi3si")
_SIDE_EXIT = Struct("<3si3si3sB3si3siBi")
_PASS_FLAGS_DEAD = Struct("<3siB")
_PASS = Struct("<3si3si4s3si")
_ADD_BYTE = b"\x48\x83\x05"
_RAX_PLUS_1, _RCX_PLUS_1 = b"\x48\x8d\x40\x01", b"\x48\x8d\x49\x01"
_SPILLING = 7
"""Bytes of the instruction that spills a register."""
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
    """The bytes, marks and sites of one unit. `links`: edges may lead to units that the code page has already."""

    __slots__ = ("at", "code", "counters", "data_delta", "first_exit", "info", "links", "lookup", "mark_offsets",
                 "mark_states", "precise", "side_exits", "stubs", "tsc", "unit", "user")  # fmt: skip

    def __init__(
        self, unit: TranslationUnit, at: int, precise: bool, links: bool, tsc: TscScale, info: InstructionInfoFactory
    ) -> None:
        self.unit = unit
        self.at = at
        self.code = bytearray()
        self.precise = precise
        self.links = links
        self.tsc = tsc
        self.info = info
        user = unit.page.user
        self.user = user
        self.counters = 0
        """Where the unit's counters are, relative to `at`: its passes, then from number `first_exit` on each side exit. 0: it
        has none."""
        self.first_exit = 1
        self.data_delta = (USER_DATA_VA if user else DATA_VA) - at
        self.lookup = USER_LOOKUP_VA if user else KERNEL_LOOKUP_VA
        self.mark_offsets: list[int] = []
        self.mark_states: list[int] = []
        self.stubs: list[tuple[int, Site]] = []
        self.side_exits: list[tuple[int, Edge]] = []
        unit.tc_start = unit.entry = at
        unit.indirect_entry = 0
        unit.edges = []

    def data_ref(self, opcode: bytes, slot: int) -> None:
        """An instruction whose memory operand is a word of the data page."""
        code = self.code
        end = len(code) + len(opcode) + 4
        code += opcode + I32.pack(self.data_delta + slot - end)

    def jump_to_stub(self, opcode: bytes, site: Site) -> None:
        """A jump (rel32) to the out-of-line exit of `site`."""
        code = self.code
        code += opcode + b"\0\0\0\0"
        self.stubs.append((len(code), site))

    def exit(self, site: Site) -> None:
        """An exit right here."""
        code = self.code
        code += EXIT
        self.stubs.append((-len(code), site))

    def mark(self, guest_offset: int, retired: int, fix: int = 0) -> None:
        """From here on, TC addresses stand for this guest state (`units.Mark`)."""
        self.mark_offsets.append(len(self.code))
        self.mark_states.append(mark_state(guest_offset, retired, fix))

    def count(self, index: int, flags_dead: bool) -> None:
        """Count the unit's instructions, in front of the one numbered `index`; leave if the budget does not cover them."""
        unit = self.unit
        length = unit.length
        code = self.code
        site = Site(units.SLICE, unit, 0, 0, None, index)
        if flags_dead:
            if self.counters:
                code += _PASS_FLAGS_DEAD.pack(_ADD_BYTE, self.counters - len(code) - _PASS_FLAGS_DEAD.size, 1)
            at = len(code)
            budget = self.data_delta - at + tcdata.BUDGET
            code += _COUNT_FLAGS_DEAD.pack(b"\x48\x83\x2d", budget - 8, length, b"\x0f\x88", 0)
            self.stubs.append((at + 14, site))
        else:
            self.mark_offsets.append(len(code))
            self.mark_states.append(0)
            spilled = self._pass(0, STORE_RCX, LOAD_RCX, _RCX_PLUS_1, tcdata.SPILL_RCX) if self.counters else 0
            at = len(code) - spilled
            budget, spill = self.data_delta - at + tcdata.BUDGET, self.data_delta - at + tcdata.SPILL_RCX
            sequence = _COUNT_FLAGS_LIVE.pack(
                STORE_RCX, spill - 7, LOAD_RCX, budget - 14, b"\x48\x8d\x49", 256 - length, STORE_RCX, budget - 25,
                b"\x0f\xb6\x0d", budget + 7 - 32,
                b"\xe3\x0c", LOAD_RCX, spill - 41, 0xE9, 0,  # jrcxz over the restoring exit
                LOAD_RCX, spill - 53,
            )  # fmt: skip
            code += sequence[spilled:] if spilled else sequence
            self.stubs.append((at + 46, site))
        unit.resume_at = self.at + len(code)

    def _pass(self, number: int, store: bytes, load: bytes, plus_1: bytes, slot: int) -> int:
        """Spill a register, and add 1 to one of the unit's counters in it, flags untouched.

        Returns the length of the spill, which what follows must not do again.
        """
        at = len(self.code)
        counter = self.counters + 8 * number - at
        self.code += _PASS.pack(store, self.data_delta - at + slot - 7, load, counter - 14, plus_1, store, counter - 25)
        return _SPILLING

    def edge(self, opcode: bytes, target: int, retired: int) -> None:
        """A direct way out after `retired` instructions: to the target's unit if there is one already, else to a stub.

        From the middle of a unit the way leads over a correction of the count, out of line.
        """
        unit = self.unit
        edge = Edge(unit, target, not self.precise, retired)
        unit.edges.append(edge)
        code = self.code
        code += opcode + b"\0\0\0\0"
        position = len(code)
        if retired != unit.length and not self.precise:
            self.side_exits.append((position, edge))
        else:
            edge.patch = self.at + position - 4
            self.stubs.append((position, edge))

    def _side_exit(self, number: int, position: int, edge: Edge) -> None:
        """Count back what the unit counted ahead, flags untouched, and jump on."""
        code, unit = self.code, self.unit
        at = len(code)
        I32.pack_into(code, position - 4, at - position)
        counted = unit.length if edge.retired > unit.count_index else 0
        self.mark_offsets.append(at)
        self.mark_states.append(mark_state(0, unit.length - 1))
        spilled = self._pass(number, STORE_RAX, LOAD_RAX, _RAX_PLUS_1, tcdata.SPILL_RAX) if self.counters else 0
        at = len(code) - spilled
        budget = self.data_delta - at + tcdata.BUDGET
        spill = self.data_delta - at + tcdata.SPILL_RAX
        sequence = _SIDE_EXIT.pack(
            STORE_RAX, spill - 7, LOAD_RAX, budget - 14, b"\x48\x8d\x40", counted - edge.retired & 0xFF, STORE_RAX, budget - 25,
            LOAD_RAX, spill - 32, 0xE9, 0,
        )  # fmt: skip
        code += sequence[spilled:] if spilled else sequence
        edge.patch = self.at + at + 33
        self.stubs.append((at + 37, edge))

    def exit_site(self, kind: int, instruction: Instruction, raw: bytes, guest: int, number: int) -> Site:
        """The site of an exit that is about this instruction."""
        rip = self.unit.guest_rip + guest & MASK64
        return Site(kind, self.unit, rip, rip + len(raw) & MASK64, instruction, number)

    def callout(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """An exit in which the monitor carries out the instruction."""
        self.exit(self.exit_site(units.CALLOUT, instruction, raw, guest, number))

    def finish(self) -> tuple[bytearray, list[Site]]:
        """Append the stubs, link what can be linked at once, and give the addresses behind the exits to the sites."""
        code, at, unit = self.code, self.at, self.unit
        for number, (position, edge) in enumerate(self.side_exits, self.first_exit):
            self._side_exit(number, position, edge)
        page = unit.page
        va, links = page.va >> 12, self.links
        end = at + len(code)
        sites: list[Site] = []
        for position, site in self.stubs:
            sites.append(site)
            if position < 0:
                site.count = at - position
                continue
            destination = end
            end += 2
            site.count = end
            if type(site) is Edge:
                site.stub = destination
                if links and site.guest_rip >> 12 == va:
                    target = page.units.get(site.guest_rip & 0xFFF)
                    if target is not None:
                        site.target = target
                        target.incoming.append(site)
                        destination = target.entry
            I32.pack_into(code, position - 4, destination - at - position)
        code += EXIT * (end - at - len(code) >> 1)
        unit.tc_end = end
        unit.mark_offsets = self.mark_offsets
        unit.mark_states = self.mark_states
        return code, sites
