"""QEMU's own packets, which people's scripts and tools send (QEMU manual, "GDB usage").

`qqemu.sstepbits`, `qqemu.sstep`, `Qqemu.sstep=`: what a single step holds back. `qqemu.PhyMemMode`, `Qqemu.PhyMemMode:`:
whether memory packets mean guest-physical addresses. QEMU answers questions that begin with a capital letter too, and
tools such as pwndbg find out that way whether it is there; so do we.
"""

from __future__ import annotations

from gdbstub.errors import MalformedPacket, RspError
from gdbstub.fields import parse_number
from gdbstub.session import OK, Reply, Session
from gdbstub.table import Row
from gdbstub.target import PhysicalMemory, StepFlags

_ENABLE = 1
_NO_INTERRUPTS = 2
_NO_TIMER = 4
_EINVAL = 22


def step_bits(_session: Session, _target: StepFlags, _: bytes) -> Reply:
    """`qqemu.sstepbits`: the bits there are."""
    return b"ENABLE=%x,NOIRQ=%x,NOTIMER=%x" % (_ENABLE, _NO_INTERRUPTS, _NO_TIMER)


def step_flags(session: Session, target: StepFlags, _: bytes) -> Reply:
    """`qqemu.sstep`: those that are set."""
    timer = _NO_TIMER if session.steps_without_timer else 0
    return b"0x%x" % (_ENABLE | timer | (0 if target.steps_take_interrupts else _NO_INTERRUPTS))


def set_step_flags(session: Session, target: StepFlags, arguments: bytes) -> Reply:
    """`Qqemu.sstep=flags`: with NOIRQ, a step does not go to an interrupt handler; the interrupt waits.

    NOTIMER is taken, and changes nothing where time is counted in instructions: however long a person looks, a step takes
    one instruction's time. ENABLE must be set, since without it QEMU's `s` would not be a step. Without flags it asks.
    """
    if not arguments:
        return step_flags(session, target, arguments)
    flags = parse_number(arguments.removeprefix(b"0x").removeprefix(b"0X"))
    if flags & ~(_ENABLE | _NO_INTERRUPTS | _NO_TIMER) or not flags & _ENABLE:
        raise RspError(f"step flags {flags:#x}: 1 (step), with 2 (no interrupts) and 4 (no timer) or without", _EINVAL)
    target.steps_take_interrupts = not flags & _NO_INTERRUPTS
    session.steps_without_timer = bool(flags & _NO_TIMER)
    return OK


def memory_mode(_session: Session, target: PhysicalMemory, _: bytes) -> Reply:
    """`qqemu.PhyMemMode`: 1 if memory packets mean guest-physical addresses."""
    return b"1" if target.physical_addresses else b"0"


def set_memory_mode(_session: Session, target: PhysicalMemory, arguments: bytes) -> Reply:
    """`Qqemu.PhyMemMode:0` or `:1`; without a mode it asks."""
    if not arguments:
        return memory_mode(_session, target, arguments)
    if arguments not in (b"0", b"1"):
        raise MalformedPacket("the memory mode is 0 (virtual) or 1 (physical)")
    target.physical_addresses = arguments == b"1"
    return OK


ROWS = (
    Row("qqemu.sstepbits", step_bits, StepFlags, text_errors=False),
    Row("Qqemu.sstepbits", step_bits, StepFlags, text_errors=False),
    Row("qqemu.sstep", step_flags, StepFlags, text_errors=False),
    Row("Qqemu.sstep", set_step_flags, StepFlags),
    Row("qqemu.PhyMemMode", memory_mode, PhysicalMemory, text_errors=False),
    Row("Qqemu.PhyMemMode", set_memory_mode, PhysicalMemory),
)
