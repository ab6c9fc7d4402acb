"""Between the engine's context and the guest's CPU: flags, segments, control bits.

General registers need nothing: `VCpu.gpr` is a view of the context. RFLAGS, RIP and segments are brought over only when
an exit needs them.

The guest kernel runs at CPL 1 with IOPL 1, so that the hardware's IF *is* the guest's: cli, sti, pushf and popf need no
exit, and there is no interrupt in the engine that IF could let in. IOPL itself is virtual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dbgvmm.cpu.bits import CR0, CR4, RFLAGS
from dbgvmm.cpu.state import VCpu
from dbgvmm.hardware.context import HFlags
from dbgvmm.hardware.engine import CR0_RUNNING, Engine

IOPL: Final = 3 << 12
KERNEL_IOPL: Final = 1 << 12
ARITHMETIC: Final = RFLAGS.CF | RFLAGS.PF | RFLAGS.AF | RFLAGS.ZF | RFLAGS.SF | RFLAGS.OF
_VIRTUAL: Final = IOPL | RFLAGS.TF
"""Flags that the hardware's register does not hold: IOPL is ours, TF is carried out by precise units."""
_CC_OP_EFLAGS: Final = 1
_HARDWARE_CR0: Final = CR0.TS | CR0.EM | CR0.MP
_KEEP: Final = ~(HFlags.CPL_MASK | HFlags.TF | HFlags.CS64 | HFlags.CS32 | HFlags.SS32 | HFlags.ADDSEG)


class StateSync:
    """Moves state between the context and a `VCpu`."""

    def __init__(self, engine: Engine, cpu: VCpu) -> None:
        self.engine = engine
        self.cpu = cpu
        self.segments_dirty = True
        self.return_selectors: tuple[int, int, int] | None = None
        """CS, SS and GDT base that IRETQ in the TC was told of."""
        self.on_sse_switched: Callable[[bool], None] = lambda on: None
        """Called when CR4.OSFXSR has changed; it is taken for set at first."""
        self._sse = True
        self._context = engine.context
        cpu.on_segments_changed = self._segments_changed

    def _segments_changed(self, cpu: VCpu) -> None:
        self.segments_dirty = True

    def load_flags(self) -> None:
        """cpu.rflags from the live engine (call it before changing the context's flags)."""
        cpu = self.cpu
        cpu.rflags = self.engine.read_flags() & ~_VIRTUAL | cpu.rflags & _VIRTUAL

    def interrupts_enabled(self) -> bool:
        """The guest's IF, straight from the saved context."""
        return bool(self._context.q[self._context.eflags_q] & RFLAGS.IF)

    def store_flags(self) -> None:
        """The context's flags from cpu.rflags."""
        context = self._context
        flags = self.cpu.rflags
        q = context.q
        q[context.cc_src_q] = flags & ARITHMETIC
        context.d[context.cc_op_d] = _CC_OP_EFLAGS
        context.s[context.df_d] = -1 if flags & RFLAGS.DF else 1
        system = flags & ~(ARITHMETIC | RFLAGS.DF | RFLAGS.RF | RFLAGS.TF)
        if self.cpu.cpl != 3:
            system = system & ~IOPL | KERNEL_IOPL
        q[context.eflags_q] = system

    def return_selectors_hold(self) -> bool:
        """Whether IRETQ in the TC may go on: at CPL 3 none runs, and what it knows is kept for the way back."""
        cpu = self.cpu
        if cpu.cpl == 3:
            return True
        return self.return_selectors == (cpu.segs[1].selector, cpu.segs[2].selector, cpu.gdtr.base)

    def store_segments(self) -> None:
        """Segments, CPL and mode into the context."""
        self.segments_dirty = False
        cpu, context = self.cpu, self._context
        q, at = context.q, context.segment_q(0)
        for segment in cpu.segs:  # ContextView.set_segment, written out: a system call comes through here twice
            q[at] = segment.selector
            q[at + 1] = segment.base
            q[at + 2] = segment.limit | segment.attributes << 40
            at += 3
        hflags = context.d[context.hflags_d] & _KEEP
        self._store_mode(hflags | (3 if cpu.cpl == 3 else 1))

    def _store_mode(self, hflags: int) -> None:
        cpu, context = self.cpu, self._context
        cs = cpu.segs[1].attributes
        if cpu.in_64bit_code:
            hflags |= HFlags.CS64 | HFlags.CS32 | HFlags.SS32
        else:
            if cs & 1 << 14:
                hflags |= HFlags.CS32
            if cpu.segs[2].attributes & 1 << 14:
                hflags |= HFlags.SS32
            if any(cpu.segs[index].base for index in (0, 2, 3)):
                hflags |= HFlags.ADDSEG
        context.d[context.hflags_d] = hflags

    def store_control(self) -> None:
        """Those bits of CR0 and CR4 that the hardware itself acts on, and CR3's shadow by the caller."""
        cpu, context = self.cpu, self._context
        cr0 = CR0_RUNNING & ~_HARDWARE_CR0 | cpu.cr0 & _HARDWARE_CR0
        context.q[context.cr_q] = cr0
        hflags = context.d[context.hflags_d] & ~(HFlags.MP | HFlags.EM | HFlags.TS | HFlags.OSFXSR | HFlags.SMAP)
        hflags |= HFlags.OSFXSR  # what may not use SSE is not let through by the translator: see classify.py
        if cpu.cr0 & CR0.MP:
            hflags |= HFlags.MP
        if cpu.cr0 & CR0.EM:
            hflags |= HFlags.EM
        if cpu.cr0 & CR0.TS:
            hflags |= HFlags.TS
        cr4 = context.q[context.cr_q + 4] & ~(CR4.OSFXSR | CR4.OSXMMEXCPT | CR4.SMAP)
        cr4 |= cpu.cr4 & CR4.OSXMMEXCPT | CR4.OSFXSR
        if cpu.cr4 & CR4.SMAP and cpu.cr0 & CR0.PG:  # identity pages have U set
            hflags |= HFlags.SMAP
            cr4 |= CR4.SMAP
        context.q[context.cr_q + 4] = cr4
        context.d[context.hflags_d] = hflags
        sse = bool(cpu.cr4 & CR4.OSFXSR)
        if sse != self._sse:
            self._sse = sse
            self.on_sse_switched(sse)
