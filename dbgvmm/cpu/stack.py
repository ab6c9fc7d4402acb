"""Pushes and pops of 2, 4 or 8 bytes on a guest stack, with the stack segment's checks; commits nothing itself.

Source: Intel SDM vol. 1 6.2.3 (stack address size), vol. 3A 5.3 (limit checking), 6.15 interrupt 12 (#SS).
"""

from __future__ import annotations

from .bits import EFER, GPR, MASK16, MASK32, MASK64, SegmentAttributes, SReg, is_canonical
from .faults import stack_fault
from .memory import LinearMemory
from .state import Segment, VCpu


def stack_mask(long64: bool, attributes: int) -> int:
    """Return the mask of the stack pointer: 64 bits in 64-bit mode, else 32 or 16 after the segment's B bit."""
    if long64:
        return MASK64
    return MASK32 if attributes & SegmentAttributes.DB else MASK16


class Stack:
    """A cursor on a stack. Use it, then store `merged()` in RSP once nothing more can fault.

    error_code: of the #SS that a limit or canonical violation raises.
    """

    __slots__ = ("sp", "_mem", "_base", "_limit", "_attributes", "_mask", "_old", "_user", "_long64", "_error_code")

    def __init__(
        self, mem: LinearMemory, segment: Segment, sp: int, *, user: bool, long64: bool, error_code: int = 0
    ) -> None:
        self._mem = mem
        self._base = 0 if long64 else segment.base
        self._limit = segment.limit
        self._attributes = segment.attributes
        self._mask = stack_mask(long64, segment.attributes)
        self._old = sp
        self.sp = sp & self._mask
        self._user = user
        self._long64 = long64
        self._error_code = error_code

    @classmethod
    def current(cls, cpu: VCpu, mem: LinearMemory, error_code: int = 0) -> Stack:
        """The stack that PUSH and POP use now."""
        long64 = bool(cpu.efer & EFER.LMA and cpu.segs[SReg.CS].attributes & SegmentAttributes.L)
        return cls(
            mem, cpu.segs[SReg.SS], cpu.gpr[GPR.RSP], user=cpu.cpl == 3, long64=long64, error_code=error_code
        )

    def _linear(self, offset: int, size: int) -> int:
        if self._long64:
            if not is_canonical(offset) or not is_canonical(offset + size - 1):
                raise stack_fault(self._error_code, "stack address is not canonical")
            return offset
        end = offset + size - 1
        if self._attributes & SegmentAttributes.EXPAND_DOWN and not self._attributes & SegmentAttributes.CODE:
            top = MASK32 if self._attributes & SegmentAttributes.DB else MASK16
            inside = offset > self._limit and end <= top
        else:
            inside = end <= self._limit
        if not inside:
            raise stack_fault(self._error_code, "stack access beyond the segment's limit")
        return (self._base + offset) & MASK32

    def push(self, value: int, size: int) -> None:
        """Write the low `size` bytes of `value` below the top."""
        sp = (self.sp - size) & self._mask
        address = self._linear(sp, size)
        if size == 8:
            self._mem.write_u64(address, value & MASK64, self._user)
        elif size == 4:
            self._mem.write_u32(address, value & MASK32, self._user)
        else:
            self._mem.write_u16(address, value & MASK16, self._user)
        self.sp = sp

    def pop(self, size: int) -> int:
        """Read `size` bytes at the top and move past them."""
        address = self._linear(self.sp, size)
        if size == 8:
            value = self._mem.read_u64(address, self._user)
        elif size == 4:
            value = self._mem.read_u32(address, self._user)
        else:
            value = self._mem.read_u16(address, self._user)
        self.sp = (self.sp + size) & self._mask
        return value

    def skip(self, count: int) -> None:
        """Move up by `count` bytes without reading them."""
        self.sp = (self.sp + count) & self._mask

    def merged(self) -> int:
        """Return the new RSP: a 16-bit stack keeps the bits above 15."""
        return merge_sp(self._old, self.sp, self._mask)


def merge_sp(old: int, new: int, mask: int) -> int:
    """Return RSP after a write of `new` through `mask`: 16-bit writes keep the rest, 32-bit ones clear it."""
    if mask == MASK16:
        return old & ~MASK16 & MASK64 | new & MASK16
    return new & mask
