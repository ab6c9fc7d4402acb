"""`machine.registers`: every register of the guest's CPU as an attribute, or by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, overload

from dbgvmm.cpu.bits import BitNames
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.registers import REGISTERS, read_register, write_register

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_OTHER_NAMES: Final = {"rflags": "eflags", "pc": "rip", "sp": "rsp", "fp": "rbp"}


class Bits(int):
    """A register's value whose bits have names: `registers.cr0.PG` is 1 or 0, a wider field such as `eflags.IOPL` its number.

    It is an int, so `registers.cr0 & CR0.PG` with the classes of `dbgvmm.cpu.bits` means the same; `str` lists what is set.
    """

    _fields: type[BitNames]

    @classmethod
    def of(cls, value: int, fields: type[BitNames]) -> Bits:
        """`value`, its bits named by `fields`."""
        bits = cls(value)
        bits._fields = fields
        return bits

    def __getattr__(self, name: str) -> int:
        mask = vars(self._fields).get(name) if name.isupper() and not name.startswith("_") else None
        if not isinstance(mask, int):
            known = ", ".join(sorted(name for name in vars(self._fields) if name.isupper()))
            raise AttributeError(f"{self._fields.__name__} has no bit {name}: it has {known}")
        return (self & mask) // (mask & -mask)

    def __str__(self) -> str:
        return f"{int(self):#x} [{self._fields.describe(self)}]"

    __repr__ = __str__


class Register:
    """An attribute that is a register. Setting it raises RegisterError for what the CPU would refuse."""

    def __set_name__(self, owner: type[Registers], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, registers: None, owner: type[Registers]) -> Register: ...
    @overload
    def __get__(self, registers: Registers, owner: type[Registers]) -> int: ...
    def __get__(self, registers: Registers | None, owner: type[Registers]) -> int | Register:
        return self if registers is None else registers[self._name]

    def __set__(self, registers: Registers, value: int) -> None:
        registers[self._name] = value


class NamedBits:
    """An attribute that is a register whose bits have names."""

    def __set_name__(self, owner: type[Registers], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, registers: None, owner: type[Registers]) -> NamedBits: ...
    @overload
    def __get__(self, registers: Registers, owner: type[Registers]) -> Bits: ...
    def __get__(self, registers: Registers | None, owner: type[Registers]) -> Bits | NamedBits:
        if registers is None:
            return self
        value = registers[self._name]
        assert isinstance(value, Bits)
        return value

    def __set__(self, registers: Registers, value: int) -> None:
        registers[self._name] = value


class Registers:
    """The registers of a machine, exact whenever the guest stands still.

    `registers.rax` and `registers["rax"]` are the same, to read and to set. Values are unsigned; a negative one is set as its
    two's complement. Raises RegisterError for a name that no register has, a value that is too wide, and whatever the CPU would
    refuse with #GP: nothing has changed then. Iterating gives the names.
    """

    rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp = (Register() for _ in range(8))
    r8, r9, r10, r11, r12, r13, r14, r15 = (Register() for _ in range(8))
    rip, pc, sp, fp = (Register() for _ in range(4))
    eflags, rflags = NamedBits(), NamedBits()
    cs, ss, ds, es, fs, gs, ldtr, tr = (Register() for _ in range(8))
    cs_base, ss_base, ds_base, es_base, fs_base, gs_base, ldtr_base, tr_base = (Register() for _ in range(8))
    cs_limit, ss_limit, ds_limit, es_limit, fs_limit, gs_limit, ldtr_limit, tr_limit = (Register() for _ in range(8))
    cs_attr, ss_attr, ds_attr, es_attr, fs_attr, gs_attr, ldtr_attr, tr_attr = (NamedBits() for _ in range(8))
    gdtr_base, gdtr_limit, idtr_base, idtr_limit, k_gs_base = (Register() for _ in range(5))
    cr0, cr4, efer = NamedBits(), NamedBits(), NamedBits()
    cr2, cr3, cr8 = Register(), Register(), Register()
    dr0, dr1, dr2, dr3 = (Register() for _ in range(4))
    dr6, dr7 = NamedBits(), NamedBits()
    star, lstar, cstar, sfmask, sysenter_cs, sysenter_esp, sysenter_eip = (Register() for _ in range(7))
    tsc, tsc_aux, pat, misc_enable, apic_base, mtrr_def_type = (Register() for _ in range(6))
    st0, st1, st2, st3, st4, st5, st6, st7 = (Register() for _ in range(8))
    fctrl, fstat, ftag, fiseg, fioff, foseg, fooff, fop, mxcsr = (Register() for _ in range(9))
    xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7 = (Register() for _ in range(8))
    xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15 = (Register() for _ in range(8))

    def __init__(self, machine: Machine) -> None:
        object.__setattr__(self, "_machine", machine)

    _machine: Machine

    def __getitem__(self, name: str) -> int:
        name = _OTHER_NAMES.get(name, name)
        value = read_register(self._machine, name)
        fields = REGISTERS[name].fields
        return value if fields is None else Bits.of(value, fields)

    def __setitem__(self, name: str, value: int) -> None:
        write_register(self._machine, _OTHER_NAMES.get(name, name), value)

    def __setattr__(self, name: str, value: int) -> None:
        if not isinstance(vars(type(self)).get(name), Register | NamedBits):
            raise RegisterError(f"there is no register {name!r}: `list(machine.registers)` has their names")
        object.__setattr__(self, name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(REGISTERS)

    def __len__(self) -> int:
        return len(REGISTERS)

    def __contains__(self, name: object) -> bool:
        return name in REGISTERS or name in _OTHER_NAMES


__all__ = ["Bits", "RegisterError", "Registers"]
