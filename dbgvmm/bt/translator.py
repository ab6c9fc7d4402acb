"""From guest bytes to translated bytes: one unit at a time.

Rules that every sequence here keeps:

* guest registers and flags are in the hardware's own; what we need in between is spilled to the data page and the
  `Mark` of each TC instruction says how to put it back;
* guest flags are live across everything that we insert: `lea`, `mov`, `jrcxz` leave them alone, and a plain `sub` is
  used only in front of an instruction that overwrites all of them and cannot fault;
* a unit never leaves its TC page, and a guest instruction that crosses its page has a unit of its own.

The count: each unit subtracts its length from the budget once, at the first place where flags are dead, and leaves
(SLICE) if the budget is used up.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from iced_x86 import Decoder, DecoderError, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register, RegisterInfo

from dbgvmm.bt import classify as cls
from dbgvmm.bt import tcdata, units
from dbgvmm.bt.classify import Classifier
from dbgvmm.bt.stores import PLAIN_STORES
from dbgvmm.bt.units import CodePage, Edge, Mark, Site, TranslationUnit
from dbgvmm.hardware.layout import (
    DATA_VA,
    KERNEL_LOOKUP_VA,
    MASK64,
    USER_DATA_VA,
    USER_LOOKUP_VA,
)

MAX_UNIT: int = 32
"""Instructions in a unit, at most."""
MAX_ROUNDS: int = 6
UNROLLED: int = 72
"""Rounds of an unrolled loop, and instructions in one, at most."""
MAX_SIDE_EXITS: int = 3
"""Forward conditional branches that a unit goes on behind."""
EXIT = b"\xcd\x20"
"""`int 20h`: every exit site. The address behind it says which."""

_I32 = Struct("<i")
_U32 = Struct("<I")
_U64 = Struct("<Q")
_STORE_RAX, _LOAD_RAX = b"\x48\x89\x05", b"\x48\x8b\x05"
_STORE_RCX, _LOAD_RCX = b"\x48\x89\x0d", b"\x48\x8b\x0d"
_POPF_SPECIAL = 0x3_7100
"""TF, IOPL, NT, RF, VM: popf of any of these goes to the monitor."""
_LEGACY_PREFIXES = frozenset((0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65))
_SCALINGS = {
    9: b"\x48\x8d\x04\xc0", 5: b"\x48\x8d\x04\x80", 3: b"\x48\x8d\x04\x40", 2: b"\x48\x8d\x04\x00",
}  # fmt: skip
"""`lea rax, [rax + rax * n]` by factor: multiplication that leaves the flags alone."""
_SPILLABLE = {Register.RAX: 0, Register.RCX: 1, Register.RDX: 2, Register.RBX: 3, Register.RSI: 6, Register.RDI: 7}
_MEMORY = OpKind.MEMORY
_SETCC = frozenset(
    getattr(Mnemonic, name) for name in "SETO SETNO SETB SETAE SETE SETNE SETBE SETA SETS SETNS SETP SETNP SETL SETGE SETLE "
    "SETG".split()
)
_NEEDS_RAX = frozenset((Register.RAX, Register.EAX, Register.RIP, Register.EIP))


def fits_signed32(value: int) -> bool:
    """Whether a 64-bit address is the sign extension of 32 bits."""
    return value < 0x8000_0000 or value >= 0xFFFF_FFFF_8000_0000


class Translator:
    """Makes units. It knows nothing of the cache but where the unit will be placed."""

    def __init__(self) -> None:
        self.classifier = Classifier()
        self._info = InstructionInfoFactory()
        self.instructions = 0
        self.ticks_per_instruction = 0
        self.scale: tuple[bytes, ...] = ()

    def set_ticks(self, ticks: int) -> None:
        """TSC ticks per instruction; 0, or a number that no chain of `lea` makes: rdtsc is a callout."""
        self.ticks_per_instruction = ticks
        scale = []
        for factor, scaling in _SCALINGS.items():
            while ticks > 1 and ticks % factor == 0:
                ticks //= factor
                scale.append(scaling)
        self.scale = tuple(scale) if ticks == 1 else ()

    def translate(
        self,
        unit: TranslationUnit,
        data: bytes,
        at: int,
        *,
        limit: int = MAX_UNIT,
        precise: bool = False,
        indirect: bool = False,
        breakpoints: frozenset[int] | set[int] = frozenset(),
        find: Callable[[int], TranslationUnit | None] | None = None,
    ) -> tuple[bytes, list[Site]]:
        """Translate `data` (guest bytes from the unit's guest_rip to the end of what may be read) for TC address `at`.

        Returns the TC bytes and the exit sites, and fills in the unit. `precise` units stop after exactly `limit`
        instructions and chain to nothing. The unit's length is 0 if the first instruction does not fit into `data`.
        """
        emission = _Emission(self, unit, at, precise, find)
        decoded = self._decode(unit, data, limit, breakpoints, precise)
        unit.length = len(decoded)
        if not decoded:
            return b"", []
        self.instructions += len(decoded)
        if limit == MAX_UNIT and not precise:
            decoded = decoded * self._rounds(unit, decoded)
            unit.length = len(decoded)
        if indirect:
            emission.indirect_prefix()
        emission.body(decoded, data)
        return emission.finish()

    @staticmethod
    def _rounds(unit: TranslationUnit, decoded: list[tuple[Instruction, int]]) -> int:
        """How often to unroll: a unit that branches back to its own start is a loop, and pays for its count once."""
        last, kind = decoded[-1]
        if kind not in (cls.JCC, cls.JMP) or last.near_branch_target != unit.guest_rip:
            return 1
        return max(1, min(MAX_ROUNDS, UNROLLED // len(decoded)))

    def thunk(self, unit: TranslationUnit, at: int, entry: int) -> bytes:
        """The indirect entry of a unit that was made without one: reload RAX and RCX, jump to it."""
        emission = _Emission(self, unit, at, False, None)
        emission.indirect_prefix()
        emission.mark(0, 0)
        emission.code += b"\xe9" + _I32.pack(entry - at - len(emission.code) - 5)
        return emission.finish()[0]

    def _decode(
        self, unit: TranslationUnit, data: bytes, limit: int, breakpoints: frozenset[int] | set[int], precise: bool
    ) -> list[tuple[Instruction, int]]:
        classes, learn = self.classifier.classes, self.classifier.learn
        decoded: list[tuple[Instruction, int]] = []
        start = unit.guest_rip
        branches = 0
        decoder = Decoder(64, data, ip=start)
        for instruction in decoder:
            code = instruction.code
            kind = classes.get(code)
            if kind is None:
                kind = learn(instruction)
            if breakpoints and decoded and instruction.ip in breakpoints:
                break
            if kind == cls.INVALID:
                if decoder.last_error == DecoderError.NO_MORE_BYTES:
                    break  # it crosses the page: a unit of its own
                decoded.append((instruction, cls.INVALID))
                break
            decoded.append((instruction, kind))
            if kind == cls.JCC and not precise and len(decoded) < limit and branches < MAX_SIDE_EXITS:
                target = instruction.near_branch_target
                if target > instruction.ip and target & ~0xFFF == start & ~0xFFF:
                    branches += 1  # a forward branch: its fall-through is the likelier way
                    continue
            if kind != cls.IDENT and (kind not in cls.STRAIGHT or precise and kind in _CALLOUTS_WHEN_PRECISE):
                break
            if len(decoded) >= limit:
                break
        return decoded

    def spill_register(self, instruction: Instruction) -> int:
        """A register that `instruction` does not touch, fit to be the base of its rewritten memory operand."""
        used = {use.register for use in self._info.info(instruction).used_registers()}
        full = {RegisterInfo(register).full_register for register in used}
        for register, number in _SPILLABLE.items():
            if register not in full:
                return number
        raise AssertionError("an instruction that uses six registers and RIP")


class _Emission:
    """The bytes of one unit while they are made."""

    def __init__(
        self, owner: Translator, unit: TranslationUnit, at: int, precise: bool,
        find: Callable[[int], TranslationUnit | None] | None,
    ) -> None:
        self.owner = owner
        self.unit = unit
        self.at = at
        self.code = bytearray()
        self.precise = precise
        self.find = find
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

    # -- pieces

    def data_ref(self, opcode: bytes, slot: int, immediate: bytes = b"") -> None:
        """An instruction whose memory operand is a word of the data page."""
        code = self.code
        end = len(code) + len(opcode) + 4 + len(immediate)
        code += opcode
        code += _I32.pack(self.data_delta + slot - end)
        code += immediate

    def jump_to_stub(self, opcode: bytes, site: Site) -> None:
        """A jump (rel32) to the out-of-line exit of `site`."""
        self.code += opcode + b"\0\0\0\0"
        self.stubs.append((len(self.code), site))

    def mark(self, guest_offset: int, retired: int, fix: int = 0) -> None:
        self.marks.append(Mark(len(self.code), guest_offset, retired, fix))

    def indirect_prefix(self) -> None:
        """What a lookup arrives at: RAX and RCX were spilled by the jump."""
        self.unit.indirect_entry = self.at
        self.mark(0, 0, units.FIX_RAX | units.FIX_RCX)
        self.data_ref(_LOAD_RCX, tcdata.SPILL_RCX)
        self.mark(0, 0, units.FIX_RAX)
        self.data_ref(_LOAD_RAX, tcdata.SPILL_RAX)
        self.unit.entry = self.at + len(self.code)

    # -- the count

    def _count_index(self, decoded: list[tuple[Instruction, int]]) -> int:
        """The first instruction in front of which the flags are dead, or -1.

        It must come before any way out: a chain of exits that nothing checks could pass the deadline.
        """
        kills = self.owner.classifier.kills_flags
        for index, (instruction, kind) in enumerate(decoded[: tcdata.MARGIN]):
            if kind == cls.JCC:
                return -1
            if (
                kind == cls.IDENT
                and kills[instruction.code]
                and instruction.op0_kind != _MEMORY
                and instruction.op1_kind != _MEMORY
            ):
                return index
        return -1

    def count(self, index: int, flags_dead: bool) -> None:
        unit = self.unit
        length = unit.length
        site = Site(units.SLICE, unit, 0, retired=index)
        if flags_dead:
            self.data_ref(b"\x48\x83\x2d", tcdata.BUDGET, bytes((length,)))
            self.jump_to_stub(b"\x0f\x88", site)
        else:
            self.mark(0, 0)
            self.data_ref(_STORE_RCX, tcdata.SPILL_RCX)
            self.data_ref(_LOAD_RCX, tcdata.BUDGET)
            self.code += b"\x48\x8d\x49" + bytes((256 - length,))
            self.data_ref(_STORE_RCX, tcdata.BUDGET)
            self.data_ref(b"\x0f\xb6\x0d", tcdata.BUDGET + 7)
            self.code += b"\xe3\x0c"  # jrcxz over the restoring exit
            self.data_ref(_LOAD_RCX, tcdata.SPILL_RCX)
            self.jump_to_stub(b"\xe9", site)
            self.data_ref(_LOAD_RCX, tcdata.SPILL_RCX)
        unit.resume_at = self.at + len(self.code)

    # -- the body

    def body(self, decoded: list[tuple[Instruction, int]], data: bytes) -> None:
        unit = self.unit
        index = -1 if self.precise else self._count_index(decoded)
        flags_dead = index >= 0
        if not flags_dead:
            index = 0
        unit.count_index = index
        if self.precise:
            # The monitor counts these: they run once or rarely, and always to their end or to a fault.
            unit.count_index = unit.resume_at = 1 << 64
            index = -1
        start = unit.guest_rip
        code = self.code
        guest = 0
        kind = cls.IDENT
        marks = self.marks
        guilty = unit.page.guilty if not self.precise else None
        first = decoded[0]
        for number, item in enumerate(decoded):
            instruction, kind = item
            if item is first:
                guest = 0  # the next round of an unrolled loop
            if number == index:
                self.mark(guest, number)
                self.count(number, flags_dead)
            length = instruction.len
            marks.append(Mark(len(code), guest, number, 0))
            if guilty and (start + guest & 0xFFF) in guilty and instruction.code in PLAIN_STORES:
                self.code += EXIT
                site = self.exit_site(units.STORE, instruction, data[guest : guest + length], guest, number)
                self.stubs.append((-len(code), site))
            elif kind == cls.IDENT:
                if instruction.mnemonic in _SETCC and instruction.op0_kind == _MEMORY and self.setcc(
                    instruction, data[guest : guest + length], guest, number
                ):
                    pass
                elif instruction.is_ip_rel_memory_operand:
                    self.rip_relative(instruction, data[guest : guest + length], guest, number)
                else:
                    code += data[guest : guest + length]
            else:
                _EMITTERS[kind](self, instruction, data[guest : guest + length], guest, number)
            guest += length
        unit.guest_bytes = data[:guest]
        if kind in cls.STRAIGHT and not (self.precise and kind in _CALLOUTS_WHEN_PRECISE):
            marks.append(Mark(len(code), guest, unit.length, 0))
            self.edge(b"\xe9", start + guest & MASK64, unit.length)

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
        code[position : position + 4] = _I32.pack(len(code) - position - 4)
        counted = unit.length if edge.retired > unit.count_index else 0
        here = unit.length - 1
        self.mark(0, here, 0)
        self.data_ref(_STORE_RAX, tcdata.SPILL_RAX)
        self.data_ref(_LOAD_RAX, tcdata.BUDGET)
        code += b"\x48\x8d\x40" + bytes((counted - edge.retired & 0xFF,))
        self.data_ref(_STORE_RAX, tcdata.BUDGET)
        self.data_ref(_LOAD_RAX, tcdata.SPILL_RAX)
        edge.patch = self.at + len(code) + 1
        self.jump_to_stub(b"\xe9", edge)

    def rip_relative(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """An instruction with a RIP-relative operand, copied with the same address given absolutely."""
        address = instruction.ip_rel_memory_address
        displacement = self._displacement_offset(instruction, raw)
        modrm = raw[displacement - 1]
        if fits_signed32(address):
            opcode = self._without_rex_xb(raw[: displacement - 1])
            self.code += opcode + bytes((modrm & 0x38 | 4, 0x25)) + _U32.pack(address & 0xFFFF_FFFF)
            self.code += raw[displacement + 4 :]
            return
        register = self.owner.spill_register(instruction)
        fix = units.FIX_SPILL + register
        self.data_ref(bytes((0x48, 0x89, register << 3 | 5)), tcdata.SPILL_ANY)
        self.code += bytes((0x48, 0xB8 + register)) + _U64.pack(address)
        self.mark(guest, number, fix)
        self.code += self._without_rex_xb(raw[: displacement - 1]) + bytes((modrm & 0x38 | register,))
        self.code += raw[displacement + 4 :]
        self.mark(guest + len(raw), number + 1, fix)
        self.data_ref(bytes((0x48, 0x8B, register << 3 | 5)), tcdata.SPILL_ANY)

    def setcc(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> bool:
        """SETcc to memory as `setcc al` and a store: should its store fault, the engine has lost the flags otherwise.

        False, with nothing emitted, for an address that needs RAX or RIP: that one is copied.
        """
        registers = (instruction.memory_base, instruction.memory_index)
        if any(register in _NEEDS_RAX for register in registers):
            return False
        at = raw.index(0x0F)
        self.data_ref(_STORE_RAX, tcdata.SPILL_RAX)
        self.code += b"\x0f" + raw[at + 1 : at + 2] + b"\xc0"
        self.mark(guest, number, units.FIX_RAX)
        self.code += raw[:at] + bytes((0x88, raw[at + 2] & 0xC7)) + raw[at + 3 :]
        self.mark(guest + len(raw), number + 1, units.FIX_RAX)
        self.data_ref(_LOAD_RAX, tcdata.SPILL_RAX)
        return True

    @staticmethod
    def _displacement_offset(instruction: Instruction, raw: bytes) -> int:
        decoder = Decoder(64, raw, ip=instruction.ip)
        return decoder.get_constant_offsets(decoder.decode()).displacement_offset

    @staticmethod
    def _without_rex_xb(opcode: bytes) -> bytes:
        """Clear X and B of REX or VEX: ignored with a RIP-relative operand, meaningful with a base register or a SIB."""
        at = 0
        while opcode[at] in _LEGACY_PREFIXES:
            at += 1
        while opcode[at] & 0xF0 == 0x40 and opcode[at + 1] & 0xF0 == 0x40:
            at += 1  # of several REX prefixes the last one counts
        if opcode[at] & 0xF0 == 0x40:
            return opcode[:at] + bytes((opcode[at] & 0xFC,)) + opcode[at + 1 :]
        if opcode[at] == 0xC4:
            return opcode[: at + 1] + bytes((opcode[at + 1] | 0x60,)) + opcode[at + 2 :]
        return opcode

    # -- one emitter per class

    def emit_jcc(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        retired, unit = number + 1, self.unit
        condition, target = instruction.condition_code - 1, instruction.near_branch_target
        behind = unit.guest_rip + guest + len(raw) & MASK64
        if retired != unit.length and target == unit.guest_rip:
            self.edge(bytes((0x0F, 0x80 | condition ^ 1)), behind, retired)  # the next round follows
            return
        self.edge(bytes((0x0F, 0x80 | condition)), target, retired)
        if retired == unit.length:
            self.edge(b"\xe9", behind, retired)

    def emit_loop(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        self.code += raw[:-1] + b"\x05"
        self.edge(b"\xe9", self.unit.guest_rip + guest + len(raw) & MASK64, number + 1)
        self.edge(b"\xe9", instruction.near_branch_target, number + 1)

    def emit_jmp(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        if number + 1 == self.unit.length:
            self.edge(b"\xe9", instruction.near_branch_target, number + 1)

    def push_return(self, address: int) -> None:
        """Push a guest return address: one store that covers all eight bytes, then the upper half where needed."""
        self.code += b"\x68" + _U32.pack(address & 0xFFFF_FFFF)
        if not fits_signed32(address):
            self.code += b"\xc7\x44\x24\x04" + _U32.pack(address >> 32)

    def emit_call(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        self.push_return(self.unit.guest_rip + guest + len(raw) & MASK64)
        self.edge(b"\xe9", instruction.near_branch_target, number + 1)

    def dispatch(self) -> None:
        """RCX holds a guest address and its own value is spilled: go to its unit by the lookup table.

        A precise unit leaves to the monitor instead, as at its other ends.
        """
        if self.precise:
            self.code += EXIT
            self.stubs.append((-len(self.code), Site(units.INDIRECT, self.unit, 0, retired=self.unit.length)))
            return
        self.data_ref(_STORE_RAX, tcdata.SPILL_RAX)
        self.code += b"\x48\xb8" + _U64.pack(self.lookup)
        self.code += b"\xff\x24\xc8"

    def emit_ret(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        self.data_ref(_STORE_RCX, tcdata.SPILL_RCX)
        self.code += b"\x59"
        immediate = instruction.immediate16 if instruction.op_count else 0
        if immediate:
            self.code += b"\x48\x8d\xa4\x24" + _U32.pack(immediate)
        self.mark(guest, number, units.FIX_RCX)
        self.dispatch()

    def _load_target(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """mov rcx, <operand of an indirect branch>; RCX spilled before."""
        self.data_ref(_STORE_RCX, tcdata.SPILL_RCX)
        if instruction.is_ip_rel_memory_operand and not fits_signed32(instruction.ip_rel_memory_address):
            self.code += b"\x48\xb9" + _U64.pack(instruction.ip_rel_memory_address)
            self.mark(guest, number, units.FIX_RCX)
            prefix = b"\x64" if 0x64 in raw[:2] else b"\x65" if 0x65 in raw[:2] else b""
            self.code += prefix + b"\x48\x8b\x09"
            return
        at = raw.index(0xFF)
        prefixes, rex = raw[:at], 0x48
        if prefixes and prefixes[-1] & 0xF0 == 0x40:
            rex, prefixes = prefixes[-1] & 0x4B | 0x48, prefixes[:-1]
        modrm = raw[at + 1] & 0xC7 | 1 << 3
        if instruction.is_ip_rel_memory_operand:
            rex = 0x48
            tail = bytes((1 << 3 | 4, 0x25)) + _U32.pack(instruction.ip_rel_memory_address & 0xFFFF_FFFF)
        else:
            tail = bytes((modrm,)) + raw[at + 2 :]
        self.code += bytes(byte for byte in prefixes if byte not in (0xF2, 0x3E, 0x66)) + bytes((rex, 0x8B)) + tail

    def emit_indirect_jmp(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        self._load_target(instruction, raw, guest, number)
        self.mark(guest, number, units.FIX_RCX)
        self.dispatch()

    def emit_indirect_call(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        self._load_target(instruction, raw, guest, number)
        self.mark(guest, number, units.FIX_RCX)
        self.push_return(self.unit.guest_rip + guest + len(raw) & MASK64)
        self.dispatch()

    def exit_site(self, kind: int, instruction: Instruction, raw: bytes, guest: int, number: int) -> Site:
        rip = self.unit.guest_rip + guest & MASK64
        return Site(kind, self.unit, rip, rip + len(raw) & MASK64, instruction, number)

    def emit_callout(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        self.code += EXIT
        self.stubs.append((-len(self.code), self.exit_site(units.CALLOUT, instruction, raw, guest, number)))

    def pending_check(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """Behind an instruction that may have set IF: leave if an interrupt waits."""
        after, retired = guest + len(raw), number + 1
        self.mark(after, retired)
        self.data_ref(_STORE_RCX, tcdata.SPILL_RCX)
        self.mark(after, retired, units.FIX_RCX)
        self.data_ref(b"\x0f\xb6\x0d", tcdata.PENDING)
        self.code += b"\xe3\x0c"
        self.data_ref(_LOAD_RCX, tcdata.SPILL_RCX)
        self.mark(after, retired)
        site = self.exit_site(units.PENDING, instruction, raw, guest, retired)
        self.jump_to_stub(b"\xe9", site)
        self.mark(after, retired, units.FIX_RCX)
        self.data_ref(_LOAD_RCX, tcdata.SPILL_RCX)

    def emit_sti(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        self.code += raw
        if not self.user:
            self.pending_check(instruction, raw, guest, number)

    def emit_popf(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        if self.precise:  # the guest may be single-stepping itself: TF and IOPL are the monitor's
            self.emit_callout(instruction, raw, guest, number)
            return
        special = _POPF_SPECIAL & 0xFFFF if raw[0] == 0x66 else _POPF_SPECIAL
        self.code += b"\xf7\x04\x24" + _U32.pack(special)
        self.jump_to_stub(b"\x0f\x85", self.exit_site(units.CALLOUT, instruction, raw, guest, number))
        self.code += raw
        if not self.user:
            self.pending_check(instruction, raw, guest, number)

    def emit_pushf(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """The kernel's hardware flags have IOPL 1 (so that cli and sti work at CPL 1): take it out of the copy."""
        self.code += raw
        if self.user:
            return
        after, retired = guest + len(raw), number + 1
        self.mark(after, retired)
        self.data_ref(_STORE_RAX, tcdata.SPILL_RAX)
        self.data_ref(_STORE_RCX, tcdata.SPILL_RCX)
        self.mark(after, retired, units.FIX_RAX | units.FIX_RCX)
        self.code += b"\x0f\xb6\x44\x24\x01"
        self.data_ref(b"\x0f\xb6\x0d", tcdata.VIRTUAL_IOPL)
        self.code += b"\x8d\x04\x08" + b"\x88\x44\x24\x01"
        self.data_ref(_LOAD_RAX, tcdata.SPILL_RAX)
        self.data_ref(_LOAD_RCX, tcdata.SPILL_RCX)

    def emit_pause(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """A nop: the engine would leave its inner loop for it, in case another CPU waits."""
        self.code += b"\x90"

    def emit_wide_exchange(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """The engine's cmpxchg8b/16b keeps the other flags only if they were computed in an earlier block: end it."""
        self.code += b"\xeb\x00"
        if instruction.is_ip_rel_memory_operand:
            self.rip_relative(instruction, raw, guest, number)
        else:
            self.code += raw

    def emit_iretq(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """IRETQ to the same CS and SS without an exit; at the least doubt, with flags and registers untouched, a callout.

        Doubts: another selector, a descriptor that is not as when it was checked, unusual flags, a RIP that is not
        canonical. Kernels return so from interrupts, and to serialise.
        """
        if self.user or self.precise:
            self.emit_callout(instruction, raw, guest, number)
            return
        code = self.code
        spilled = units.FIX_RAX | units.FIX_RCX
        slow: list[int] = []

        def unless_zero() -> None:
            """Go on if RCX is 0, else to the slow way."""
            code.extend(b"\xe3\x05\xe9\0\0\0\0")
            slow.append(len(code))

        self.data_ref(_STORE_RAX, tcdata.SPILL_RAX)
        self.data_ref(_STORE_RCX, tcdata.SPILL_RCX)
        self.mark(guest, number, spilled)
        for words, frame_offset in ((tcdata.RETURN_CS, 8), (tcdata.RETURN_SS, 32)):
            code += bytes((0x48, 0x8B, 0x4C, 0x24, frame_offset))  # mov rcx, [rsp + offset]
            self.data_ref(_LOAD_RAX, words)
            code += b"\x48\x8d\x0c\x08"  # lea rcx, [rax + rcx]
            unless_zero()
            self.data_ref(_LOAD_RCX, words + 8)
            code += b"\x48\x8b\x09"  # mov rcx, [rcx]: the descriptor
            self.data_ref(_LOAD_RAX, words + 16)
            code += b"\x48\x8d\x0c\x08"
            unless_zero()
        for table, frame_offset in ((tcdata.USUAL_FLAGS_8, 17), (tcdata.USUAL_FLAGS_16, 18)):
            self.data_ref(b"\x48\x8d\x05", table)  # lea rax, [table]
            code += bytes((0x0F, 0xB6, 0x4C, 0x24, frame_offset))
            code += b"\x0f\xb6\x0c\x08"  # movzx ecx, byte [rax + rcx]
            unless_zero()
        # canonical if bits 63:32, sign-extended, equal bits 47:32, sign-extended
        code += b"\x48\x0f\xbf\x4c\x24\x04" + b"\x48\x63\x44\x24\x04"
        code += b"\x48\xf7\xd0" + b"\x48\x8d\x4c\x08\x01"
        unless_zero()
        code += b"\x48\x8b\x0c\x24" + b"\x48\x8d\x64\x24\x10" + b"\x9d" + b"\x48\x8b\x24\x24"
        self.data_ref(b"\x0f\xb6\x05", tcdata.PENDING)
        code += b"\x48\x91" + b"\xe3\x04" + b"\x48\x91" + EXIT  # xchg; jrcxz over the exit
        self.stubs.append((-len(code), Site(units.RETURNED, self.unit, 0, retired=number + 1)))
        code += b"\x48\x91"
        self.mark(guest, number, units.FIX_RCX)
        code += b"\x48\xb8" + _U64.pack(self.lookup) + b"\xff\x24\xc8"
        for position in slow:
            code[position - 4 : position] = _I32.pack(len(code) - position)
        self.mark(guest, number, spilled)
        self.data_ref(_LOAD_RCX, tcdata.SPILL_RCX)
        self.mark(guest, number, units.FIX_RAX)
        self.data_ref(_LOAD_RAX, tcdata.SPILL_RAX)
        self.mark(guest, number)
        self.emit_callout(instruction, raw, guest, number)

    def emit_rdtsc(self, instruction: Instruction, raw: bytes, guest: int, number: int) -> None:
        """TSC_BASE - (BUDGET + what this unit has counted ahead) * ticks per instruction, without touching flags.

        The kernel only (CR4.TSD is for CPL 3), and only where an instruction takes a whole number of ticks.
        """
        ticks = self.owner.ticks_per_instruction
        if self.user or self.precise or not self.owner.scale:
            self.emit_callout(instruction, raw, guest, number)
            return
        counted = self.unit.length if number >= self.unit.count_index else 0
        correction = ticks * (1 - (counted - number - 1))
        self.data_ref(_LOAD_RAX, tcdata.BUDGET)
        self.code += b"\x48\xf7\xd0"  # not rax: -BUDGET - 1
        for scaling in self.owner.scale:
            self.code += scaling
        self.data_ref(b"\x48\x8b\x15", tcdata.TSC_BASE)
        self.code += b"\x48\x8d\x84\x10" + _I32.pack(correction)  # lea rax, [rax + rdx + correction]
        self.data_ref(_STORE_RAX, tcdata.SPILL_ANY)
        self.data_ref(b"\x8b\x15", tcdata.SPILL_ANY + 4)
        self.code += b"\x89\xc0"

    # -- the end

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
            code[position - 4 : position] = _I32.pack(destination - at - position)
        unit.tc_end = at + len(code)
        unit.marks = self.marks
        unit.mark_offsets = [mark.tc_offset for mark in self.marks]
        return bytes(code), sites


_EMITTERS = {
    cls.JCC: _Emission.emit_jcc,
    cls.JMP: _Emission.emit_jmp,
    cls.CALL: _Emission.emit_call,
    cls.RET: _Emission.emit_ret,
    cls.INDIRECT_JMP: _Emission.emit_indirect_jmp,
    cls.INDIRECT_CALL: _Emission.emit_indirect_call,
    cls.CALLOUT: _Emission.emit_callout,
    cls.INVALID: _Emission.emit_callout,
    cls.LOOP: _Emission.emit_loop,
    cls.POPF: _Emission.emit_popf,
    cls.STI: _Emission.emit_sti,
    cls.PUSHF: _Emission.emit_pushf,
    cls.PAUSE: _Emission.emit_pause,
    cls.RDTSC: _Emission.emit_rdtsc,
    cls.IRETQ: _Emission.emit_iretq,
    cls.WIDE_EXCHANGE: _Emission.emit_wide_exchange,
}
_CALLOUTS_WHEN_PRECISE = frozenset((cls.POPF, cls.RDTSC))
"""Unit code pages are passed as `CodePage`; see units.py."""
__all__ = ["CodePage", "EXIT", "MAX_UNIT", "Translator", "fits_signed32"]
