"""From the state that a loader has made to the CPU that the guest's first instruction finds."""

from __future__ import annotations

from typing import Final

from dbgvmm.boot.state import BootState
from dbgvmm.cpu.msr import set_firmware_mtrrs
from dbgvmm.cpu.state import VCpu

_GPR_NAMES: Final = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
_SEGMENT_NAMES: Final = ("es", "cs", "ss", "ds", "fs", "gs")


def set_first_state(cpu: VCpu, state: BootState) -> None:
    """Reset the CPU and give it this state. What hangs on it (paging, segments) is told by the caller."""
    cpu.reset()
    for index, name in enumerate(_GPR_NAMES):
        cpu.gpr[index] = state.gpr.get(name, 0)
    for index, name in enumerate(_SEGMENT_NAMES):
        segment = state.segments.get(name)
        if segment is not None:
            cpu.segs[index].set(segment.selector, segment.base, segment.limit, segment.attributes)
    task = state.segments.get("tr")
    if task is not None:
        cpu.tr.set(task.selector, task.base, task.limit, task.attributes)
    cpu.gdtr.base, cpu.gdtr.limit = state.gdt_base, state.gdt_limit
    cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer = state.cr0, state.cr3, state.cr4, state.efer
    cpu.rip, cpu.rflags, cpu.cpl = state.rip, state.rflags, 0
    set_firmware_mtrrs(cpu)
