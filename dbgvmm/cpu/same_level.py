"""IRETQ that returns to the same CS and SS: the frequent case, checked quickly and given up at the least doubt.

Kernels return so from interrupts, and Linux also to serialise after each patch of its own code. The descriptors are
read every time, for the guest may have changed them; only their checks are remembered.
"""

from __future__ import annotations

import struct

from .bits import RFLAGS, SegmentAttributes, is_canonical
from .descriptors import attributes_of, base_of, limit_of
from .memory import LinearMemory
from .privilege import null_stack_attributes
from .state import Segment, VCpu

_FRAME = struct.Struct("<5Q")
_UNUSUAL = RFLAGS.TF | RFLAGS.IOPL | RFLAGS.NT | RFLAGS.RF | RFLAGS.VM | 1 << 19 | 1 << 20
_DEFINED = 0x3F_7FD5


def _matches(segment: Segment, raw: int) -> bool:
    """Whether loading the descriptor would leave the register as it is, and set no accessed bit."""
    attributes = attributes_of(raw)
    return (
        bool(attributes & SegmentAttributes.P and attributes & SegmentAttributes.ACCESSED)
        and attributes == segment.attributes
        and base_of(raw) == segment.base
        and limit_of(raw) == segment.limit
    )


class SameLevelReturn:
    """Pops such a frame, or leaves it to iret.iret()."""

    def __init__(self) -> None:
        self.known: dict[int, int] = {}
        """Checked descriptors by offset in the GDT."""

    def pop(self, cpu: VCpu, mem: LinearMemory) -> tuple[int, int, int] | None:
        """RIP, RFLAGS and RSP of the frame at RSP, or None where anything is unusual. Raises GuestFault #PF."""
        rip, cs, rflags, rsp, ss = _FRAME.unpack(mem.read(cpu.gpr[4], 40, False))
        segs = cpu.segs
        if cs != segs[1].selector or ss != segs[2].selector or rflags & _UNUSUAL or cpu.rflags & RFLAGS.NT:
            return None
        if not cs & ~7 or (cs | ss) & 4 or not is_canonical(rip):
            return None
        if not ss & ~3 and (ss or segs[2].attributes != null_stack_attributes(0)):
            return None
        base, limit = cpu.gdtr.base, cpu.gdtr.limit
        for selector, segment in ((cs, segs[1]), (ss, segs[2])):
            offset = selector & ~7
            if not offset:
                continue  # a null SS, as 64-bit kernels may have
            if offset + 7 > limit:
                return None
            raw = mem.read_u64(base + offset, False)
            if self.known.get(offset) != raw or segment.base:
                if not _matches(segment, raw):
                    return None
                self.known[offset] = raw
        return rip, rflags & _DEFINED | RFLAGS.FIXED, rsp
