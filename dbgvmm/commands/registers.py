"""The CPU's registers: general, control, x87 and SSE; setting one."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import RegisterName, Value
from dbgvmm.commands.qemu_registers import qemu_registers
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import CR0, CR4, DR6, DR7, EFER, RFLAGS
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.registers import GENERAL, X87_CONTROL, read_register, write_register


@dataclass(frozen=True)
class GeneralRegisters:
    """The general registers by name, RIP, RFLAGS, mode, CPL and the instruction count."""

    values: dict[str, int]
    rip: int
    place: str
    rflags: int
    mode: str
    cpl: int
    count: int

    def __str__(self) -> str:
        names = list(self.values)
        rows = [
            [f"{name:<3} {self.values[name]:016x}" for name in names[at : at + 4]] for at in range(0, len(names), 4)
        ]
        return (
            f"{columns(rows)}\n"
            f"rip {self.rip:016x} {self.place}\n"
            f"rflags {self.rflags:#x} {RFLAGS.describe(self.rflags & ~RFLAGS.FIXED)}\n"
            f"{self.mode}, CPL {self.cpl}, after {self.count:,} instructions"
        )


@dataclass(frozen=True)
class QemuRegisters:
    """The whole CPU in QEMU's form."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class NamedValue:
    """A register, its value and what that means in words."""

    name: str
    value: int
    words: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value:#x} {self.words}".rstrip()


@dataclass(frozen=True)
class NamedValues:
    """Several registers."""

    lines: tuple[NamedValue, ...]

    def __str__(self) -> str:
        return columns((line.name, f"{line.value:#x}", line.words) for line in self.lines)


@command("info registers", aliases=("registers", "regs", "info r"))
def info_registers(session: Session, *, a: bool = False) -> GeneralRegisters | QemuRegisters:
    """Show the general registers, RIP with its symbol, the flags in words, mode and CPL.

    They are the CPU's, whichever frame is selected: `info frame` has those of a frame.
    As gdb's `monitor info registers` it shows what QEMU's does (RAX=... CR3=...), which scripts take apart. `-a`: of
    all CPUs.

    For example:

        info registers
        i r
    """
    machine = session.machine
    if session.as_qemu:
        return QemuRegisters(qemu_registers(machine))
    cpu = machine.cpu
    values = {row.name: row.read(machine) for row in GENERAL}
    place = session.symbols.describe(cpu.rip)
    return GeneralRegisters(
        values, cpu.rip, f"<{place}>" if place else "", cpu.rflags, cpu.mode.value, cpu.cpl, machine.count
    )


@command("info control", aliases=("info cr",))
def info_control(session: Session) -> NamedValues:
    """Show the control registers, EFER and the debug registers with the names of their bits.

    For example:

        info control
    """
    cpu = session.machine.cpu
    lines = [
        NamedValue("cr0", cpu.cr0, CR0.describe(cpu.cr0)),
        NamedValue("cr2", cpu.cr2, "last page fault's address"),
        NamedValue("cr3", cpu.cr3, f"page tables at {cpu.cr3 & ~0xFFF:#x}" if cpu.cr0 & CR0.PG else "paging is off"),
        NamedValue("cr4", cpu.cr4, CR4.describe(cpu.cr4)),
        NamedValue("cr8", cpu.cr8, "task priority"),
        NamedValue("efer", cpu.efer, EFER.describe(cpu.efer)),
        *(NamedValue(f"dr{number}", cpu.dr[number], "") for number in range(4)),
        NamedValue("dr6", cpu.dr[6], DR6.describe(cpu.dr[6] & DR6.writable)),
        NamedValue("dr7", cpu.dr[7], DR7.describe(cpu.dr[7] & DR7.writable)),
    ]
    return NamedValues(tuple(lines))


@command("info fpu")
def info_fpu(session: Session) -> NamedValues:
    """Show the x87 and SSE registers: st0 is the top of the stack; xmm0 to xmm15 as 128-bit numbers.

    For example:

        info fpu
    """
    machine = session.machine
    names = [f"st{n}" for n in range(8)] + [row.name for row in X87_CONTROL]
    names += ["mxcsr", *(f"xmm{n}" for n in range(16))]
    return NamedValues(tuple(_described(name, read_register(machine, name)) for name in names))


def _described(name: str, value: int) -> NamedValue:
    words = f"{_extended(value):.17g}" if name.startswith("st") else ""
    return NamedValue(name, value, words)


def _extended(value: int) -> float:
    """An 80-bit number as a float (SDM vol. 1, 4.2.2): close enough for people."""
    sign = -1.0 if value >> 79 else 1.0
    exponent, mantissa = value >> 64 & 0x7FFF, value & (1 << 64) - 1
    if exponent == 0x7FFF:
        return sign * float("inf") if not mantissa << 1 & (1 << 64) - 1 else float("nan")
    scale = exponent - 16383 - 63
    try:
        return sign * mantissa * 2.0**scale
    except OverflowError:
        return sign * float("inf")


@command("set register")
def set_register(session: Session, register: RegisterName, value: Value) -> NamedValue:
    """Set REGISTER to VALUE.

    Any that `info registers`, `info control` and `info fpu` show (but no debug register), and fs_base, gs_base and
    k_gs_base. What the CPU would refuse with #GP is refused here too.

    For example:

        set register rax 0x10
        set register $rip kmain
    """
    try:
        write_register(session.machine, register, value)
    except RegisterError as error:
        raise CommandError(str(error)) from error
    return NamedValue(register, read_register(session.machine, register), "")
