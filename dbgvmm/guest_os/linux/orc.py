"""ORC: for each instruction of the kernel, how to find its caller (Documentation/arch/x86/orc-unwinder.rst).

A sorted table of addresses, and beside it one of 6-byte entries: which register the stack pointer in the caller follows
from, where the caller's RBP is, and what lies on the stack. Entries changed in 6.3 and 6.4; BTF says where their bits are.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from dbgvmm.guest_os.interface import GuestOsError
from dbgvmm.guest_os.linux.layouts import Field, Types

ENTRY_BYTES: Final = 6


class OrcBase(IntEnum):
    """ORC_REG_*: what an address is counted from."""

    UNDEFINED = 0
    PREV_SP = 1
    DX = 2
    DI = 3
    BP = 4
    SP = 5
    R10 = 6
    R13 = 7
    BP_INDIRECT = 8
    SP_INDIRECT = 9


class Shape(IntEnum):
    """What the stack holds at the end of the frame: ORC_TYPE_*, with the numbers of 6.4 and later."""

    UNDEFINED = 0
    END = 1
    CALL = 2
    REGS = 3
    REGS_PARTIAL = 4


_BEFORE_6_4: Final = (Shape.CALL, Shape.REGS, Shape.REGS_PARTIAL, Shape.UNDEFINED)


@dataclass(frozen=True, slots=True)
class OrcRule:
    """An entry, decoded. Offsets are in bytes."""

    sp_base: OrcBase
    sp_offset: int
    bp_base: OrcBase
    bp_offset: int
    shape: Shape


class OrcFormat:
    """Where an entry's bits are, in the kernel that `types` describes. Raises GuestOsError."""

    def __init__(self, types: Types) -> None:
        if not types.has("orc_entry") or types.size("orc_entry") != ENTRY_BYTES:
            raise GuestOsError("this Linux has no ORC tables that are known here: it was built without CONFIG_UNWINDER_ORC")
        names = ("sp_offset", "bp_offset", "sp_reg", "bp_reg", "type")
        self._sp_offset, self._bp_offset, self._sp_reg, self._bp_reg, self._type = (
            types.field("orc_entry", name) for name in names
        )
        self._end = types.field("orc_entry", "end") if types.has("orc_entry", "end") else None

    def decode(self, entry: bytes) -> OrcRule:
        """An entry's rule."""

        def number(field: Field) -> int:
            value = int.from_bytes(entry[field.offset : field.offset + field.size], "little")
            return value >> field.shift & (1 << field.bits) - 1 if field.bits else value

        kind = number(self._type)
        if self._end is None:
            shape = Shape(kind) if kind <= Shape.REGS_PARTIAL else Shape.UNDEFINED
        else:
            shape = Shape.END if number(self._end) else _BEFORE_6_4[kind]
        try:
            sp_base, bp_base = OrcBase(number(self._sp_reg)), OrcBase(number(self._bp_reg))
        except ValueError:
            return OrcRule(OrcBase.UNDEFINED, 0, OrcBase.UNDEFINED, 0, Shape.UNDEFINED)
        return OrcRule(sp_base, _signed(number(self._sp_offset)), bp_base, _signed(number(self._bp_offset)), shape)


def _signed(value: int) -> int:
    return value - 0x1_0000 if value & 0x8000 else value


class OrcTable:
    """One pair of tables: the kernel's own or a module's. places: the bytes of the one of addresses, which is at `address`."""

    def __init__(self, places: bytes, address: int, entries: bytes, decode: Callable[[bytes], OrcRule]) -> None:
        count = min(len(places) // 4, len(entries) // ENTRY_BYTES)
        # Each is relative to its own place. Kept relative to the table, so that they are small numbers.
        relative = struct.unpack_from(f"<{count}i", places)
        self._places = [4 * number + value for number, value in enumerate(relative)]
        if any(self._places[at] > self._places[at + 1] for at in range(count - 1)):
            raise GuestOsError("the ORC tables are damaged, or the kernel has not sorted them yet")
        self._address = address
        self._entries = entries
        self._decode = decode
        self._rules: dict[bytes, OrcRule] = {}

    def find(self, pc: int) -> OrcRule | None:
        """The rule for the instruction that holds the byte at `pc`."""
        at = bisect_right(self._places, pc - self._address) - 1
        if at < 0:
            return None
        entry = self._entries[ENTRY_BYTES * at : ENTRY_BYTES * (at + 1)]
        rule = self._rules.get(entry)
        if rule is None:
            rule = self._rules[entry] = self._decode(entry)
        return rule
