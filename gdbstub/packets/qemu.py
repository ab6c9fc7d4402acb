"""QEMU's own packets, which people's scripts and tools send (QEMU manual, "GDB usage").

`qqemu.sstepbits`, `qqemu.sstep`, `Qqemu.sstep=`: what a single step holds back. `qqemu.PhyMemMode`, `Qqemu.PhyMemMode:`:
whether memory packets mean guest-physical addresses.
"""

from __future__ import annotations

from gdbstub.errors import MalformedPacket, RspError
from gdbstub.fields import parse_number
from gdbstub.session import OK, Reply, Session
from gdbstub.table import Row
from gdbstub.target import PhysicalMemory, StepFlags

_ENABLE = 1
_NO_INTERRUPTS = 2
_EINVAL = 22


def step_bits(_session: Session, _target: StepFlags, _: bytes) -> Reply:
    """`qqemu.sstepbits`: the bits there are. NOTIMER is not among them: time is the instruction count."""
    return b"ENABLE=%x,NOIRQ=%x" % (_ENABLE, _NO_INTERRUPTS)


def step_flags(_session: Session, target: StepFlags, _: bytes) -> Reply:
    """`qqemu.sstep`: those that are set."""
    return b"0x%x" % (_ENABLE | (0 if target.steps_take_interrupts else _NO_INTERRUPTS))


def set_step_flags(_session: Session, target: StepFlags, arguments: bytes) -> Reply:
    """`Qqemu.sstep=flags`: with NOIRQ, a step does not go to an interrupt handler; the interrupt waits."""
    flags = parse_number(arguments.removeprefix(b"0x"))
    if flags & ~(_ENABLE | _NO_INTERRUPTS) or not flags & _ENABLE:
        raise RspError(f"step flags {flags:#x}: only 1 (step) and 3 (step without interrupts) are possible", _EINVAL)
    target.steps_take_interrupts = not flags & _NO_INTERRUPTS
    return OK


def memory_mode(_session: Session, target: PhysicalMemory, _: bytes) -> Reply:
    """`qqemu.PhyMemMode`: 1 if memory packets mean guest-physical addresses."""
    return b"1" if target.physical_addresses else b"0"


def set_memory_mode(_session: Session, target: PhysicalMemory, arguments: bytes) -> Reply:
    """`Qqemu.PhyMemMode:0` or `:1`"""
    if arguments not in (b"0", b"1"):
        raise MalformedPacket("the memory mode is 0 (virtual) or 1 (physical)")
    target.physical_addresses = arguments == b"1"
    return OK


ROWS = (
    Row("qqemu.sstepbits", step_bits, StepFlags, text_errors=False),
    Row("qqemu.sstep", step_flags, StepFlags, text_errors=False),
    Row("Qqemu.sstep", set_step_flags, StepFlags),
    Row("qqemu.PhyMemMode", memory_mode, PhysicalMemory, text_errors=False),
    Row("Qqemu.PhyMemMode", set_memory_mode, PhysicalMemory),
)
