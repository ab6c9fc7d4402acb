"""Patches: bytes of the guest's memory that were replaced, with what was there, so that it can be put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbgvmm.cpu.bits import MASK64

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

NOPS: Final = (
    b"", b"\x90", b"\x66\x90", b"\x0f\x1f\x00", b"\x0f\x1f\x40\x00", b"\x0f\x1f\x44\x00\x00", b"\x66\x0f\x1f\x44\x00\x00",
    b"\x0f\x1f\x80\x00\x00\x00\x00", b"\x0f\x1f\x84\x00\x00\x00\x00\x00", b"\x66\x0f\x1f\x84\x00\x00\x00\x00\x00",
)  # fmt: skip
"""By length (Intel SDM vol. 2B, NOP, table "Recommended Multi-Byte Sequence of NOP Instruction")."""


class PatchError(Exception):
    """A patch cannot be taken back. The message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Patch:
    """`new` in place of `old` at a linear address, in the address space whose tables CR3 pointed to."""

    address: int
    old: bytes
    new: bytes
    cr3: int


def nops(length: int) -> bytes:
    """As few no-operations as fill `length` bytes."""
    longest = len(NOPS) - 1
    return NOPS[longest] * (length // longest) + NOPS[length % longest]


class Patches:
    """The patches of a machine, by number. A power-cycle loads the kernel again, without them."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._patches: dict[int, Patch] = {}
        self._next = 1

    @property
    def made(self) -> dict[int, Patch]:
        """Those that are in place, by number."""
        return dict(self._patches)

    def make(self, address: int, new: bytes) -> int:
        """Write `new` as a debugger does: read-only pages too; translations of changed code are thrown away. Its number.
        Raises NotMapped, with nothing written."""
        memory = self._machine.memory
        old = memory.peek(address, len(new))
        memory.poke(address, new)
        number = self._next
        self._next += 1
        self._patches[number] = Patch(address & MASK64, old, new, self._machine.cpu.cr3)
        return number

    def undo(self, number: int) -> Patch:
        """Put back what was there. Raises KeyError; PatchError if something else is there by now; NotMapped."""
        patch = self._patches[number]
        memory = self._machine.memory
        later = [other for other, one in self._patches.items() if other > number and _overlap(one, patch)]
        if later:
            raise PatchError(f"patch {later[-1]} is on top of patch {number}: undo that first")
        there = memory.peek(patch.address, len(patch.new))
        if there == patch.old:
            return self._patches.pop(number)  # the guest, or a restart, has put it back
        if there != patch.new:
            raise PatchError(
                f"at {patch.address:#x} there are other bytes by now than patch {number} has written: nothing is put back"
            )
        memory.poke(patch.address, patch.old)
        return self._patches.pop(number)


def _overlap(one: Patch, other: Patch) -> bool:
    return one.address < other.address + len(other.new) and other.address < one.address + len(one.new)
