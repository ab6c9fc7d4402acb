"""The guest CPU's registers by name, as a debugger reads and sets them.

One table for gdb, the REPL and scripts. Values are unsigned ints; a write that the CPU would refuse with #GP raises
RegisterError, with nothing changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbgvmm.cpu import control
from dbgvmm.cpu.bits import CR0, CR4, EFER, MASK32, MASK64, MSR, RFLAGS, BitNames, SReg, is_canonical
from dbgvmm.cpu.faults import GuestFault, UnsupportedState
from dbgvmm.debug.register_row import RegisterError, RegisterRow
from dbgvmm.debug.system_registers import SYSTEM_ROWS
from dbgvmm.hardware.fpu import FPU_REGISTERS, read_fpu, write_fpu

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_NEW: Final = tuple(f"r{n}" for n in range(8, 16))
ENCODING_ORDER: Final = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *_NEW)
GDB_ORDER: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *_NEW)
_WRITABLE_FLAGS: Final = (
    RFLAGS.CF | RFLAGS.PF | RFLAGS.AF | RFLAGS.ZF | RFLAGS.SF | RFLAGS.TF | RFLAGS.IF | RFLAGS.DF | RFLAGS.OF
    | RFLAGS.IOPL | RFLAGS.NT | RFLAGS.RF | RFLAGS.AC | RFLAGS.ID
)  # fmt: skip
_MXCSR_WRITABLE: Final = 0xFFFF

def _gpr(name: str, index: int) -> RegisterRow:
    def write(machine: Machine, value: int) -> None:
        machine.cpu.gpr[index] = value

    return RegisterRow(name, 64, lambda machine: machine.cpu.gpr[index], write)


def _selector(index: int) -> RegisterRow:
    name = SReg.names[index]

    def write(machine: Machine, value: int) -> None:
        if value != machine.cpu.segs[index].selector:
            raise RegisterError(
                f"{name} can only be loaded by the guest: a selector without its descriptor is half a state"
            )

    return RegisterRow(name, 32, lambda machine: machine.cpu.segs[index].selector, write)


def _base(name: str, index: int) -> RegisterRow:
    def write(machine: Machine, value: int) -> None:
        if not is_canonical(value):
            raise RegisterError(f"{value:#x} is not a canonical address, which {name} needs")
        machine.cpu.segs[index].base = value
        machine.cpu.on_segments_changed(machine.cpu)

    return RegisterRow(name, 64, lambda machine: machine.cpu.segs[index].base, write)


def _control(number: int, fields: type[BitNames] | None = None) -> RegisterRow:
    name = f"cr{number}"
    write_control = {
        0: control.write_cr0, 2: control.write_cr2, 3: control.write_cr3, 4: control.write_cr4, 8: control.write_cr8,
    }[number]  # fmt: skip

    def write(machine: Machine, value: int) -> None:
        cpu = machine.cpu
        if value == getattr(cpu, name):
            return
        try:
            write_control(cpu, value)
        except (GuestFault, UnsupportedState) as fault:
            raise RegisterError(f"{name} cannot be {value:#x}: {fault}") from fault

    return RegisterRow(name, 64, lambda machine: int(getattr(machine.cpu, name)), write, fields)


def _msr(name: str, attribute: str, index: int, fields: type[BitNames] | None = None) -> RegisterRow:
    def write(machine: Machine, value: int) -> None:
        if value == getattr(machine.cpu, attribute):
            return
        try:
            machine.msrs.write(machine.cpu, index, value)
        except (GuestFault, UnsupportedState) as fault:
            raise RegisterError(f"{name} cannot be {value:#x}: {fault}") from fault

    return RegisterRow(name, 64, lambda machine: int(getattr(machine.cpu, attribute)), write, fields)


def _fpu(name: str, bits: int) -> RegisterRow:
    def read(machine: Machine) -> int:
        return int.from_bytes(read_fpu(machine.engine, name), "little") & ((1 << bits) - 1)

    def write(machine: Machine, value: int) -> None:
        if name == "mxcsr" and value & ~_MXCSR_WRITABLE:
            raise RegisterError(f"mxcsr cannot be {value:#x}: bits 31 to 16 are reserved")
        write_fpu(machine.engine, name, value.to_bytes(16, "little"))

    return RegisterRow(name, bits, read, write)


def _write_rip(machine: Machine, value: int) -> None:
    if machine.cpu.in_64bit_code and not is_canonical(value):
        raise RegisterError(f"rip cannot be {value:#x}: not a canonical address")
    machine.cpu.rip = value


def _write_rflags(machine: Machine, value: int) -> None:
    if value & ~(_WRITABLE_FLAGS | RFLAGS.FIXED):
        raise RegisterError(f"eflags cannot be {value:#x}: reserved bits, or VM, VIF or VIP, which this CPU has not")
    machine.cpu.rflags = value & _WRITABLE_FLAGS | RFLAGS.FIXED


GENERAL: Final = tuple(_gpr(name, ENCODING_ORDER.index(name)) for name in GDB_ORDER)
RIP: Final = RegisterRow("rip", 64, lambda machine: machine.cpu.rip & MASK64, _write_rip)
EFLAGS: Final = RegisterRow("eflags", 32, lambda machine: machine.cpu.rflags & MASK32, _write_rflags, RFLAGS)
SELECTORS: Final = tuple(_selector(SReg.names.index(name)) for name in ("cs", "ss", "ds", "es", "fs", "gs"))
X87: Final = tuple(_fpu(f"st{n}", 80) for n in range(8))
X87_CONTROL: Final = tuple(
    _fpu(name, 32) for name in ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
)
XMM: Final = tuple(_fpu(f"xmm{n}", 128) for n in range(16))
MXCSR: Final = _fpu("mxcsr", 32)
BASES: Final = (_base("fs_base", SReg.FS), _base("gs_base", SReg.GS))
SYSTEM: Final = (
    _control(0, CR0),
    _control(2),
    _control(3),
    _control(4, CR4),
    _control(8),
    _msr("efer", "efer", MSR.EFER, EFER),
    _msr("k_gs_base", "kernel_gs_base", MSR.KERNEL_GS_BASE),
)
REGISTERS: Final = {
    row.name: row
    for row in (
        *GENERAL, RIP, EFLAGS, *SELECTORS, *X87, *X87_CONTROL, *XMM, MXCSR, *BASES, *SYSTEM, *SYSTEM_ROWS.values()
    )
}  # fmt: skip
"""Every register by name."""
assert {*FPU_REGISTERS} <= {*REGISTERS}


def read_register(machine: Machine, name: str) -> int:
    """A register's value. Raises RegisterError for a name that no register has."""
    return _row(name).read(machine)


def write_register(machine: Machine, name: str, value: int) -> None:
    """Set a register. Raises RegisterError for an unknown name, too wide a value or one that the CPU refuses."""
    row = _row(name)
    if value < 0:
        value &= (1 << row.bits) - 1
    if value >> row.bits:
        raise RegisterError(f"{name} has {row.bits} bits, too few for {value:#x}")
    row.write(machine, value)


def _row(name: str) -> RegisterRow:
    row = REGISTERS.get("eflags" if name == "rflags" else name)
    if row is None:
        raise RegisterError(f"there is no register {name!r}: `info registers`, `info control` and `info fpu` list them")
    return row
