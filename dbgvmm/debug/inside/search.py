"""Guest instructions in translation units, found by mnemonic, operands or bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import capstone  # type: ignore[import-untyped]  # it has no type information

from dbgvmm.debug.inside.code import decode_lines, guest_line
from dbgvmm.debug.inside.units import Choice, live_units

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


@dataclass(frozen=True)
class Match:
    """An instruction at a guest address, in the unit that begins at `unit`."""

    address: int
    place: str
    code: bytes
    text: str
    unit: int
    user: bool


def search(machine: Machine, choice: Choice, words: Sequence[str], pattern: bytes, most: int) -> list[Match]:
    """Up to `most` instructions, by address.

    words: the mnemonic ("*" for any), then parts of the operands' text, all of which must occur. pattern: bytes instead, which
    may begin in an instruction and go on in the next ones; the match is where they begin.
    """
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    wanted, *parts = words or ("*",)
    found: dict[tuple[int, bool, bytes], Match] = {}
    for unit in sorted(live_units(machine, choice), key=lambda unit: (unit.guest_rip, unit.page.user)):
        if pattern and pattern not in unit.guest_bytes:
            continue
        starts = {at for at in range(len(unit.guest_bytes)) if unit.guest_bytes.startswith(pattern, at)} if pattern else set()
        for address, raw, mnemonic, operands in decode_lines(decoder, unit.guest_bytes, unit.guest_rip, 0):
            offset = address - unit.guest_rip
            if pattern:
                if starts.isdisjoint(range(offset, offset + len(raw))):
                    continue
            elif wanted not in ("*", mnemonic.split()[-1], mnemonic) or not all(part in operands for part in parts):
                continue
            key = address, unit.page.user, raw
            if key not in found:
                line = guest_line(machine.symbols, address, raw, mnemonic, operands)
                found[key] = Match(address, line.place, raw, line.text, unit.guest_rip, unit.page.user)
                if len(found) == most:
                    return sorted(found.values(), key=lambda match: (match.address, match.user))
    return sorted(found.values(), key=lambda match: (match.address, match.user))
