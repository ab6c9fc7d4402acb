"""The mechanisms of the monitor: everything that makes the guest wait for Python, by a name of its own.

Two kinds. An *exit* leaves translated code, and is of exactly one mechanism. *Work* goes on inside of an exit (a unit is
translated, an interrupt delivered) or beside them (a device answers translated code through the engine). The host's time is
exclusive everywhere: what work takes is not in the exit around it. So all of them and translated code sum up to the run.

A *key* is a mechanism and its detail in one number: which instruction, which port, which vector.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from iced_x86 import Code, Instruction, Mnemonic, Register

from dbgvmm.bt import units
from dbgvmm.cpu.bits import GPR, PageFaultError, Vector
from dbgvmm.cpu.state import VCpu
from dbgvmm.mmu.trace_kinds import HIDE, trace_words
from dbgvmm.mmu.trace_kinds import WATCH as WATCH_TRACE

DETAIL_SHIFT: Final = 8


class Mechanism(IntEnum):
    """In the order in which tables show them."""

    CALLOUT = 0
    PORT = 1
    CR3_SWITCH = 2
    HALT = 3
    CHAIN = 4
    LOOKUP_MISS = 5
    WINDOW_FAULT = 6
    SLICE = 7
    PRECISE_END = 8
    INTERRUPT_WINDOW = 9
    HIDDEN_FAULT = 10
    AD_UPDATE = 11
    TRUE_FAULT = 12
    TRACE = 13
    STORE = 14
    EXCEPTION = 15
    BREAK = 16
    PROBE = 17
    WATCH = 18
    STEP = 19
    DIRECT = 20
    OTHER = 21
    SAMPLE = 22

    TRANSLATION = 32
    INTERRUPT = 33
    DELIVERY = 34
    DEVICE_EVENT = 35
    MMIO = 36
    STEP_CALLOUT = 37
    ENTRY = 38
    OUTSIDE = 39
    RECORDING = 40

    @property
    def is_exit(self) -> bool:
        """Whether it leaves translated code, rather than being work inside of an exit or beside."""
        return self < Mechanism.TRANSLATION

    @property
    def title(self) -> str:
        """As commands name it, and understand it."""
        return _TITLES[self][0]

    @property
    def meaning(self) -> str:
        """In a few words."""
        return _TITLES[self][1]


_TITLES: Final[dict[Mechanism, tuple[str, str]]] = {
    Mechanism.CALLOUT: ("callout", "a sensitive instruction, which the monitor carried out"),
    Mechanism.PORT: ("port", "an access to an I/O port"),
    Mechanism.CR3_SWITCH: ("cr3", "a write of CR3: another shadow root"),
    Mechanism.HALT: ("halt", "hlt"),
    Mechanism.CHAIN: ("chain", "a direct branch that was not linked to its target yet"),
    Mechanism.LOOKUP_MISS: ("lookup", "an indirect branch or return whose target had no slot yet"),
    Mechanism.WINDOW_FAULT: ("window", "a jump to a TC page whose window was not open in this address space"),
    Mechanism.SLICE: ("slice", "the instruction budget does not cover the next unit: something is due soon"),
    Mechanism.PRECISE_END: ("precise", "the end of a unit that was cut to length, in front of something that is due"),
    Mechanism.INTERRUPT_WINDOW: ("if", "IF may have been set while an interrupt waited"),
    Mechanism.HIDDEN_FAULT: ("hidden", "a page fault the guest does not see: a shadow entry was filled"),
    Mechanism.AD_UPDATE: ("ad", "the same, and the guest's A or D bits were set as the CPU does"),
    Mechanism.TRUE_FAULT: ("true", "a page fault of the guest's own"),
    Mechanism.TRACE: ("trace", "a write to a traced page: a guest page table, or translated code"),
    Mechanism.STORE: ("store", "a store that kept hitting traces, and now goes straight to the monitor"),
    Mechanism.EXCEPTION: ("exception", "an exception of the guest's own, found by the hardware"),
    Mechanism.BREAK: ("break", "a breakpoint"),
    Mechanism.PROBE: ("probe", "a breakpoint's compiled condition that may hold, or cannot tell"),
    Mechanism.WATCH: ("watch", "an access to a page that a debugger watches"),
    Mechanism.STEP: ("step", "an instruction of 16-bit or 32-bit code"),
    Mechanism.DIRECT: ("direct", "user code that runs in place was left: a deadline, a sensitive instruction"),
    Mechanism.OTHER: ("other", "none of these"),
    Mechanism.SAMPLE: ("sample", "a look at the guest's stack, for a sampled profile"),
    Mechanism.TRANSLATION: ("translation", "making translation units"),
    Mechanism.INTERRUPT: ("interrupt", "delivering an interrupt"),
    Mechanism.DELIVERY: ("delivery", "delivering an exception"),
    Mechanism.DEVICE_EVENT: ("device", "timers and devices that were due"),
    Mechanism.MMIO: ("mmio", "accesses to memory-mapped devices"),
    Mechanism.STEP_CALLOUT: ("emulated", "sensitive instructions of 16-bit and 32-bit code"),
    Mechanism.ENTRY: ("entry", "beginning to run after a stop"),
    Mechanism.OUTSIDE: ("outside", "console, gdb and people: looking, and waiting while the guest is halted"),
    Mechanism.RECORDING: ("recording", "keeping exits one by one, and where they come from, for who asked for it"),
}

# Keys of mechanisms without a detail: plain numbers, for the way of every exit.
CHAIN: Final = int(Mechanism.CHAIN)
LOOKUP_MISS: Final = int(Mechanism.LOOKUP_MISS)
LOOKUP_PAGE: Final = LOOKUP_MISS | 1 << DETAIL_SHIFT
WINDOW_FAULT: Final = int(Mechanism.WINDOW_FAULT)
SLICE: Final = int(Mechanism.SLICE)
SAMPLE: Final = int(Mechanism.SAMPLE)
PRECISE_END: Final = int(Mechanism.PRECISE_END)
PRECISE_INDIRECT: Final = PRECISE_END | 1 << DETAIL_SHIFT
HIDDEN_FAULT: Final = int(Mechanism.HIDDEN_FAULT)
AD_UPDATE: Final = int(Mechanism.AD_UPDATE)
TRUE_FAULT: Final = int(Mechanism.TRUE_FAULT)
TRACE: Final = int(Mechanism.TRACE)
WATCH: Final = int(Mechanism.WATCH)
EXCEPTION: Final = int(Mechanism.EXCEPTION)
PROBE: Final = int(Mechanism.PROBE)
STEP: Final = int(Mechanism.STEP)
DIRECT: Final = int(Mechanism.DIRECT)
OTHER: Final = int(Mechanism.OTHER)
TRANSLATION: Final = int(Mechanism.TRANSLATION)
INTERRUPT: Final = int(Mechanism.INTERRUPT)
DELIVERY: Final = int(Mechanism.DELIVERY)
DEVICE_EVENT: Final = int(Mechanism.DEVICE_EVENT)
MMIO: Final = int(Mechanism.MMIO)
STEP_CALLOUT: Final = int(Mechanism.STEP_CALLOUT)
ENTRY: Final = int(Mechanism.ENTRY)
OUTSIDE: Final = int(Mechanism.OUTSIDE)
RECORDING: Final = int(Mechanism.RECORDING)

_BY_SITE: Final = {
    units.EDGE: Mechanism.CHAIN,
    units.CALLOUT: Mechanism.CALLOUT,
    units.SLICE: Mechanism.SLICE,
    units.LOOKUP_MISS: Mechanism.LOOKUP_MISS,
    units.BREAK: Mechanism.BREAK,
    units.PENDING: Mechanism.INTERRUPT_WINDOW,
    units.INDIRECT: Mechanism.PRECISE_END,
    units.STORE: Mechanism.STORE,
    units.RETURNED: Mechanism.INTERRUPT_WINDOW,
    units.PROBE: Mechanism.PROBE,
}
SITE_KEYS: Final = tuple(
    PRECISE_INDIRECT if kind == units.INDIRECT else int(_BY_SITE[kind]) for kind in range(len(_BY_SITE))
)
"""By the kind of a site: what its exit is, unless its handler finds that it is something else."""

_PORT: Final = int(Mechanism.PORT)
_CALLOUT: Final = int(Mechanism.CALLOUT)
_PORT_READS: Final = frozenset((Mnemonic.IN, Mnemonic.INSB, Mnemonic.INSW, Mnemonic.INSD))
_PORT_WRITES: Final = frozenset((Mnemonic.OUT, Mnemonic.OUTSB, Mnemonic.OUTSW, Mnemonic.OUTSD))
_IMMEDIATE_PORTS: Final = frozenset(
    (Code.IN_AL_IMM8, Code.IN_AX_IMM8, Code.IN_EAX_IMM8, Code.OUT_IMM8_AL, Code.OUT_IMM8_AX, Code.OUT_IMM8_EAX)
)
_CR3_WRITES: Final = frozenset((Code.MOV_CR_R64, Code.MOV_CR_R32))
_MNEMONICS: Final = {
    number: name.lower() for name, number in vars(Mnemonic).items() if name.isupper() and isinstance(number, int)
}
_ONE_KEY: Final = {
    mnemonic: int(Mechanism.HALT) if mnemonic == Mnemonic.HLT else _CALLOUT | mnemonic << DETAIL_SHIFT
    for mnemonic in _MNEMONICS
    if mnemonic != Mnemonic.MOV and mnemonic not in _PORT_READS and mnemonic not in _PORT_WRITES
}
"""Mnemonics whose callouts all have the same key."""


def key_of(mechanism: Mechanism, detail: int = 0) -> int:
    """Both in one number."""
    return int(mechanism) | detail << DETAIL_SHIFT


def parts(key: int) -> tuple[Mechanism, int]:
    """The mechanism of a key, and its detail."""
    return Mechanism(key & (1 << DETAIL_SHIFT) - 1), key >> DETAIL_SHIFT


def callout_key(instruction: Instruction, mnemonic: int, cpu: VCpu) -> int:
    """What the callout of a sensitive instruction, about to be carried out, is.

    Its detail is iced's number of the mnemonic; of ports, the port's number * 2 + 1 if it is written.
    """
    key = _ONE_KEY.get(mnemonic)
    if key is not None:
        return key
    code = instruction.code
    if mnemonic != Mnemonic.MOV:
        port = instruction.immediate8 if code in _IMMEDIATE_PORTS else cpu.gpr[GPR.RDX] & 0xFFFF
        return _PORT | (port << 1 | (mnemonic in _PORT_WRITES)) << DETAIL_SHIFT
    if code in _CR3_WRITES and instruction.op0_register == Register.CR3:
        return int(Mechanism.CR3_SWITCH)
    return _CALLOUT | mnemonic << DETAIL_SHIFT


_WITH_MNEMONICS: Final = frozenset((Mechanism.CALLOUT, Mechanism.STEP_CALLOUT))
_WITH_VECTORS: Final = frozenset((Mechanism.EXCEPTION, Mechanism.DELIVERY))
_ERROR_BITS: Final = ((1, "not present", "protection"), (2, "read", "write"), (4, "kernel", "user"))


def detail_text(mechanism: Mechanism, detail: int) -> str:
    """A detail as people read it: a mnemonic, a port, a vector, an error code. "" if there is nothing to say."""
    if mechanism in _WITH_MNEMONICS:
        return _MNEMONICS.get(detail, str(detail))
    if mechanism is Mechanism.PORT:
        return f"{'out' if detail & 1 else 'in'} {detail >> 1:#x}"
    if mechanism in _WITH_VECTORS:
        return Vector.name_of(detail)
    if mechanism is Mechanism.INTERRUPT:
        return f"vector {detail:#x}"
    if mechanism is Mechanism.TRUE_FAULT:
        words = [names[bool(detail & bit)] for bit, *names in _ERROR_BITS]
        return f"{', '.join(words)}{', fetch' if detail & PageFaultError.I else ''} (error {detail:#x})"
    if mechanism is Mechanism.TRACE:
        return "" if detail & (WATCH_TRACE | HIDE) else trace_words(detail)
    if mechanism is Mechanism.LOOKUP_MISS:
        return "a page of the table" if detail else "a slot"
    if mechanism is Mechanism.PRECISE_END:
        return "at an indirect branch" if detail else "at the next instruction"
    return ""
