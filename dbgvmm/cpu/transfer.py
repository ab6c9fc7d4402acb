"""Instructions that enter or leave the kernel: INT n and relatives, SYSCALL, SYSENTER, and SWAPGS.

IRET is in iret.py, far JMP, CALL and RET in far.py.
Source: Intel SDM vol. 2A INT, vol. 2B SYSCALL, SYSENTER, SYSEXIT, SYSRET, SWAPGS (operation); vol. 3A 5.8.7, 5.8.8.
"""

from __future__ import annotations

from .bits import CR0, EFER, GPR, MASK32, MASK64, RFLAGS, SegmentAttributes, SReg, Vector, is_canonical
from .descriptors import FLAT_CODE32, FLAT_CODE64, FLAT_DATA
from .exceptions import deliver
from .faults import general_protection, invalid_opcode
from .memory import LinearMemory
from .privilege import require_cpl0
from .state import VCpu

_SYSRET_RFLAGS = 0x3C_7FD7
_SYSCALL_ENABLED = EFER.LMA | EFER.SCE
_LONG_CODE = SegmentAttributes.L
_RF = RFLAGS.RF
_FIXED = RFLAGS.FIXED
_RCX, _R11 = GPR.RCX, GPR.R11


def int_n(cpu: VCpu, mem: LinearMemory, vector: int, next_rip: int) -> int:
    """INT n. Returns and raises as exceptions.deliver(): a gate that does not allow it gets its #GP delivered."""
    return deliver(cpu, mem, vector, software=True, return_rip=next_rip)


def int3(cpu: VCpu, mem: LinearMemory, next_rip: int) -> int:
    """INT3 (CC). Returns and raises as exceptions.deliver()."""
    return deliver(cpu, mem, Vector.BP, software=True, return_rip=next_rip)


def into(cpu: VCpu, mem: LinearMemory, next_rip: int) -> int | None:
    """INTO: #OF if OF is set, else only go on (None). In 64-bit mode it is #UD, raised as GuestFault."""
    if cpu.in_64bit_code:
        raise invalid_opcode("INTO in 64-bit mode")
    if not cpu.rflags & RFLAGS.OF:
        cpu.rip = next_rip
        return None
    return deliver(cpu, mem, Vector.OF, software=True, return_rip=next_rip)


def icebp(cpu: VCpu, mem: LinearMemory, next_rip: int) -> int:
    """INT1 (F1): #DB with no check of the gate's DPL. Returns and raises as exceptions.deliver()."""
    return deliver(cpu, mem, Vector.DB, return_rip=next_rip)


def _enter_flat(cpu: VCpu, code: int, stack: int, cpl: int, code_attributes: int) -> None:
    """Load CS and SS with the fixed flat segments that SYSCALL and its relatives use."""
    dpl = cpl << 5
    segs = cpu.segs
    segs[1].set(code & 0xFFFC | cpl, 0, MASK32, code_attributes | dpl)
    segs[2].set(stack & 0xFFFC | cpl, 0, MASK32, FLAT_DATA | dpl)
    cpu.cpl = cpl


def syscall(cpu: VCpu, next_rip: int) -> None:
    """SYSCALL. Raises #UD outside 64-bit mode (as Intel processors do) or with EFER.SCE clear."""
    if cpu.efer & _SYSCALL_ENABLED != _SYSCALL_ENABLED or not cpu.segs[1].attributes & _LONG_CODE:
        raise invalid_opcode("SYSCALL outside 64-bit mode or with EFER.SCE clear")
    gpr = cpu.gpr
    rflags = cpu.rflags
    gpr[_RCX] = next_rip
    gpr[_R11] = rflags
    cpu.rflags = rflags & ~(cpu.sfmask | _RF) | _FIXED
    cpu.rip = cpu.lstar
    selector = cpu.star >> 32 & 0xFFFC
    _enter_flat(cpu, selector, selector + 8, 0, FLAT_CODE64)
    cpu.on_segments_changed(cpu)


def sysret(cpu: VCpu, operand_size: int) -> None:
    """SYSRET to 64-bit code (operand_size 8) or compatibility mode (4).

    Raises #UD outside 64-bit mode or with EFER.SCE clear, #GP(0) above CPL 0 or for an RCX that is not canonical.
    """
    if cpu.efer & _SYSCALL_ENABLED != _SYSCALL_ENABLED or not cpu.segs[1].attributes & _LONG_CODE:
        raise invalid_opcode("SYSRET outside 64-bit mode or with EFER.SCE clear")
    require_cpl0(cpu)
    rip = cpu.gpr[_RCX]
    selector = cpu.star >> 48
    if operand_size == 8:
        if not is_canonical(rip):
            raise general_protection(0, "SYSRET to an RCX that is not canonical")
        cpu.rip = rip
        _enter_flat(cpu, selector + 16, selector + 8, 3, FLAT_CODE64)
    else:
        cpu.rip = rip & MASK32
        _enter_flat(cpu, selector, selector + 8, 3, FLAT_CODE32)
    cpu.rflags = cpu.gpr[_R11] & _SYSRET_RFLAGS | _FIXED
    cpu.on_segments_changed(cpu)


def sysenter(cpu: VCpu) -> None:
    """SYSENTER. Raises #GP(0) in real mode or with a null SYSENTER_CS."""
    if not cpu.cr0 & CR0.PE or not cpu.sysenter_cs & 0xFFFC:
        raise general_protection(0, "SYSENTER in real mode or with a null SYSENTER_CS")
    long_mode = cpu.efer & EFER.LMA
    mask = MASK64 if long_mode else MASK32
    cpu.rflags &= ~(RFLAGS.VM | RFLAGS.IF)
    cpu.gpr[GPR.RSP] = cpu.sysenter_esp & mask
    cpu.rip = cpu.sysenter_eip & mask
    selector = cpu.sysenter_cs & 0xFFFC
    _enter_flat(cpu, selector, selector + 8, 0, FLAT_CODE64 if long_mode else FLAT_CODE32)
    cpu.on_segments_changed(cpu)


def sysexit(cpu: VCpu, operand_size: int) -> None:
    """SYSEXIT to 64-bit code (operand_size 8) or 32-bit code (4): RIP from RDX, RSP from RCX.

    Raises #GP(0) in real mode, above CPL 0, with a null SYSENTER_CS, or for targets that are not canonical.
    """
    if not cpu.cr0 & CR0.PE or not cpu.sysenter_cs & 0xFFFC or cpu.cpl:
        raise general_protection(0, "SYSEXIT in real mode, above CPL 0 or with a null SYSENTER_CS")
    rip, rsp = cpu.gpr[GPR.RDX], cpu.gpr[GPR.RCX]
    selector = cpu.sysenter_cs & 0xFFFC
    if operand_size == 8:
        if not is_canonical(rip) or not is_canonical(rsp):
            raise general_protection(0, "SYSEXIT to an address that is not canonical")
        cpu.gpr[GPR.RSP], cpu.rip = rsp, rip
        _enter_flat(cpu, selector + 32, selector + 40, 3, FLAT_CODE64)
    else:
        cpu.gpr[GPR.RSP], cpu.rip = rsp & MASK32, rip & MASK32
        _enter_flat(cpu, selector + 16, selector + 24, 3, FLAT_CODE32)
    cpu.on_segments_changed(cpu)


def swapgs(cpu: VCpu) -> None:
    """SWAPGS. Raises #UD outside 64-bit mode, #GP(0) above CPL 0."""
    if not cpu.in_64bit_code:
        raise invalid_opcode("SWAPGS outside 64-bit mode")
    require_cpl0(cpu)
    gs = cpu.segs[SReg.GS]
    gs.base, cpu.kernel_gs_base = cpu.kernel_gs_base, gs.base
    cpu.on_segments_changed(cpu)
