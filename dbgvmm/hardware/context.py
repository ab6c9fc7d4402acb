"""The saved CPU state of the engine, field by field: what a VMCS is to a hardware VMM.

`uc_context_save` copies the engine's raw CPU structure. Its fields are found at start-up by writing sentinel values
through the public register interface and looking for them in the copy; a layout that does not answer as expected
stops the program with a clear error, for a wrong offset would corrupt the guest silently.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from unicorn import Uc
from unicorn import x86_const as uc_x86

_ADVICE: Final = "use unicorn 2.1.x (2.1.4 is known to work)"
_GPR_NAMES: Final = "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15".split()
GPR_NUMBERS: Final = tuple(int(getattr(uc_x86, f"UC_X86_REG_{name}")) for name in _GPR_NAMES)
"""Unicorn's numbers of the general registers, in the order of their encoding."""
SEGMENT_STRIDE: Final = 24
"""Bytes from one cached segment to the next: selector, padding, base, limit, attributes."""


class HFlags:
    """The engine's `hflags`: the part of the CPU's mode that its translator depends on."""

    CPL_MASK: Final = 3
    CS32: Final = 1 << 4
    SS32: Final = 1 << 5
    ADDSEG: Final = 1 << 6
    PE: Final = 1 << 7
    TF: Final = 1 << 8
    MP: Final = 1 << 9
    EM: Final = 1 << 10
    TS: Final = 1 << 11
    LMA: Final = 1 << 14
    CS64: Final = 1 << 15
    OSFXSR: Final = 1 << 22
    SMAP: Final = 1 << 23


class LayoutError(RuntimeError):
    """This build of the engine keeps its CPU state in a way that we do not know."""


class ContextView:
    """Typed access to one saved context. Call `save` first, and `restore` to make changes take effect.

    Indices ending in `_q` are into `q` (quadwords), those ending in `_d` into `d` (doublewords).
    """

    def __init__(self, uc: Uc) -> None:
        self._uc = uc
        self._context = uc.context_save()
        size = self._context.size
        address = ctypes.cast(self._context._context, ctypes.c_void_p).value
        if address is None:
            raise LayoutError("the engine gave no context memory")
        self.pointer = self._context._context
        blob = (ctypes.c_ubyte * size).from_address(address)
        view = memoryview(blob).cast("B")
        # The copied structure need not start on an 8-byte boundary of the blob: align the views on its registers.
        regs = self._find_registers(uc)
        self.bytes = view[regs % 8 : regs % 8 + (size - regs % 8) // 8 * 8]
        self.q = self.bytes.cast("Q")
        self.d = self.bytes.cast("I")
        self.s = self.bytes.cast("i")
        base = regs - regs % 8
        self.gpr_q: Final = base >> 3
        self.rip_q: Final = self.gpr_q + 16
        self.eflags_q: Final = self.gpr_q + 17
        self.cc_dst_q: Final = self.gpr_q + 18
        self.cc_src_q: Final = self.gpr_q + 19
        self.cc_src2_q: Final = self.gpr_q + 20
        self.cc_op_d: Final = (base + 168) >> 2
        self.df_d: Final = (base + 172) >> 2
        self.hflags_d: Final = (base + 176) >> 2
        self.segments: Final = base + 184
        self.gpr = self.q[self.gpr_q : self.gpr_q + 16]
        raw = bytes(self.bytes)
        self.cr_q: Final = self._unique(raw, struct.pack("<Q", uc.reg_read(uc_x86.UC_X86_REG_CR0)), "CR0") >> 3
        efer = struct.pack("<Q", uc.msr_read(0xC000_0080))
        self.efer_q: Final = raw.index(efer, self.cr_q << 3) >> 3
        debug = self._unique(raw, struct.pack("<QQ", 0xFFFF_0FF0, 0x400), "DR6/DR7") - 48
        self.dr_q: Final = debug >> 3
        self.error_code_d: Final = (debug - 16) >> 2
        self.old_exception_d: Final = (debug + 96) >> 2
        self._check(uc)

    @staticmethod
    def _unique(raw: bytes, pattern: bytes, what: str) -> int:
        at = raw.find(pattern)
        if at < 0:
            raise LayoutError(f"{what} was not found in the engine's saved context: {_ADVICE}")
        return at

    def _find_registers(self, uc: Uc) -> int:
        """Offset of RAX in the raw copy."""
        sentinel = 0x1122_3344_5566_7788
        uc.reg_write(uc_x86.UC_X86_REG_RAX, sentinel)
        uc.context_update(self._context)
        address = ctypes.cast(self._context._context, ctypes.c_void_p).value
        raw = ctypes.string_at(address or 0, self._context.size)
        at = raw.find(struct.pack("<Q", sentinel))
        if at < 0:
            raise LayoutError(f"RAX was not found in the engine's saved context: {_ADVICE}")
        uc.reg_write(uc_x86.UC_X86_REG_RAX, 0)
        return at

    def _check(self, uc: Uc) -> None:
        """Write every field's own sentinel through the public interface and demand it where we think it is."""
        named: list[tuple[str, int, int]] = [
            (name, getattr(uc_x86, f"UC_X86_REG_{name}"), self.gpr_q + i) for i, name in enumerate([*_GPR_NAMES, "RIP"])
        ]
        named += [("CR2", uc_x86.UC_X86_REG_CR2, self.cr_q + 2)]
        for number, (_, register, _) in enumerate(named):
            uc.reg_write(register, 0x0123_4567_0000_1000 + number)
        fs, gs = self.segment_q(4), self.segment_q(5)
        uc.msr_write(0xC000_0100, 0x5555_0000_1000)
        uc.msr_write(0xC000_0101, 0x5555_0000_2000)
        uc.context_update(self._context)
        for number, (name, _, index) in enumerate(named):
            self._demand(name, self.q[index], 0x0123_4567_0000_1000 + number)
        self._demand("FS.base", self.q[fs + 1], 0x5555_0000_1000)
        self._demand("GS.base", self.q[gs + 1], 0x5555_0000_2000)
        self._demand("CR0", self.q[self.cr_q], uc.reg_read(uc_x86.UC_X86_REG_CR0))
        self._demand("CR4", self.q[self.cr_q + 4], uc.reg_read(uc_x86.UC_X86_REG_CR4))
        self._demand("DF", self.s[self.df_d], 1)
        for _, register, _ in named:
            uc.reg_write(register, 0)
        uc.msr_write(0xC000_0100, 0)
        uc.msr_write(0xC000_0101, 0)
        uc.context_update(self._context)

    @staticmethod
    def _demand(name: str, found: int, wanted: int) -> None:
        if found != wanted:
            raise LayoutError(f"{name} is {found:#x} in the engine's saved context, not {wanted:#x}: {_ADVICE}")

    def segment_q(self, index: int) -> int:
        """Index into `q` of cached segment `index` (ES CS SS DS FS GS): [0] selector, [1] base, [2] limit and attributes."""
        return (self.segments + SEGMENT_STRIDE * index) >> 3

    def set_segment(self, index: int, selector: int, base: int, limit: int, attributes: int) -> None:
        """Write one cached segment. `attributes` are bits 8 to 23 of the descriptor's second doubleword, in place."""
        at = self.segment_q(index)
        self.q[at] = selector
        self.q[at + 1] = base
        self.q[at + 2] = limit | attributes << 32

    def segment(self, index: int) -> tuple[int, int, int, int]:
        """Selector, base, limit, attributes of one cached segment."""
        at = self.segment_q(index)
        return self.q[at] & 0xFFFF, self.q[at + 1], self.q[at + 2] & 0xFFFF_FFFF, self.q[at + 2] >> 32
