"""What both machines are asked for: the state after each instruction, the fault that ended the run, the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import lockstep_layout as layout

GPR_NAMES: Final = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
VECTOR_NAMES: Final = ("st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7", *(f"xmm{n}" for n in range(16)))
CONTROL_NAMES: Final = ("fctrl", "fstat", "ftag", "mxcsr")
WITH_ERROR_CODE: Final = frozenset((8, 10, 11, 12, 13, 14, 17))
RF: Final = 1 << 16
FIXED_FLAGS: Final = 2


@dataclass(frozen=True)
class Registers:
    """General registers, RIP and RFLAGS (without RF) between two instructions.

    undefined: flags that the manual leaves undefined here and that the engine does too (see `Reference`).
    """

    gpr: tuple[int, ...]
    rip: int
    rflags: int
    undefined: int = 0

    def difference(self, other: Registers) -> str:
        """What is not the same, for people; the other's undefined flags left out."""
        defined = ~other.undefined
        found = [
            f"{name} {mine:#x} not {theirs:#x}"
            for name, mine, theirs in zip(
                [*GPR_NAMES, "rip", "rflags"],
                [*self.gpr, self.rip, self.rflags & defined],
                [*other.gpr, other.rip, other.rflags & defined],
                strict=True,
            )
            if mine != theirs
        ]
        return ", ".join(found)


@dataclass(frozen=True)
class Fault:
    """An exception: its error code (None for vectors without), and CR2 for a page fault."""

    vector: int
    error: int | None
    cr2: int | None


@dataclass
class Outcome:
    """A whole run: `states[i]` is after i instructions.

    `final` is the last of them, but for a repeated string instruction that had got somewhere when it faulted.
    """

    states: list[Registers]
    final: Registers
    fault: Fault | None
    vectors: dict[str, bytes]
    memory: bytes


@dataclass(frozen=True)
class Program:
    """A program to run in both machines: its bytes, where it lies, and the state it begins with."""

    code: bytes
    base: int = layout.LOW
    cpl: int = 0
    offset: int = 0x100
    gpr: Mapping[str, int] = field(default_factory=dict)
    rflags: int = FIXED_FLAGS
    xmm: tuple[bytes, ...] = ()
    limit: int = 200

    @property
    def start(self) -> int:
        """The address of the first instruction."""
        return self.base + self.offset

    @property
    def end(self) -> int:
        """The address behind the last byte: arriving there ends the run."""
        return self.start + len(self.code)

    def registers(self) -> tuple[int, ...]:
        """The general registers at the start: pointers into data and stack where the program asks for nothing."""
        data, mask = self.base + layout.DATA, (1 << 64) - 1
        defaults = {
            "rax": 0x1122_3344_5566_7788, "rcx": 5, "rdx": 0, "rbx": data + 0x40,
            "rsp": self.base + layout.STACK + layout.PAGE, "rbp": self.base + layout.STACK + layout.PAGE + 0x200,
            "rsi": data + 0x1000, "rdi": data + 0x2008, "r8": data + 0x3F0, "r9": 0xFFFF_FFFF_FFFF_FFFF, "r10": 1,
            "r11": 0x8000_0000_0000_0000, "r12": data + 0x1800, "r13": data + 0x2800, "r14": 0x7FFF_FFFF, "r15": 0x100,
        }  # fmt: skip
        defaults.update(self.gpr)
        return tuple(defaults[name] & mask for name in GPR_NAMES)

    def vectors(self) -> dict[str, bytes]:
        """XMM registers at the start (given, or something to tell them apart by), x87 and MXCSR as after FNINIT."""
        xmm = {
            f"xmm{n}": self.xmm[n] if n < len(self.xmm) else bytes((n + 1) * (k + 3) & 0xFF for k in range(16))
            for n in range(16)
        }
        return {**xmm, "fctrl": b"\x7f\x03", "ftag": b"\xff\xff", "mxcsr": b"\x80\x1f\0\0"}

    def image(self) -> bytearray:
        """Physical memory at the start."""
        return layout.program_image(self.cpl, self.code, self.offset)

    @property
    def fs_base(self) -> int:
        """FS points at the second data page."""
        return self.base + layout.DATA + 0x1000

    @property
    def gs_base(self) -> int:
        """GS points into the third data page."""
        return self.base + layout.DATA + 0x2100


def compared(memory: bytes | bytearray | memoryview) -> bytes:
    """The part of physical memory that programs can change: code, data and stack."""
    first, last = layout.CODE_FRAME, layout.DATA_FRAME + layout.END - layout.DATA
    return bytes(memory[first:last])
