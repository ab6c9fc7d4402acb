"""Model-specific registers, by name and in words: `info msrs`, `info unknown-msrs`.

Source: Intel SDM vol. 4; vol. 3A 12.12.2 (PAT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.registers import NamedValue, NamedValues
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import EFER, MSR, RFLAGS, ApicBase, MiscEnable, MtrrDefType
from dbgvmm.cpu.faults import GuestFault

_MEMORY_TYPES: Final = {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB", 7: "UC-"}
_PAGE_ADDRESS: Final = 0x000F_FFFF_FFFF_F000


@dataclass(frozen=True)
class UnknownMsrs:
    """MSRs that this CPU has not, by number, and how often the guest tried to use each."""

    tries: dict[int, int]

    def __str__(self) -> str:
        if not self.tries:
            return "the guest used no unknown MSR"
        return str(NamedValues(tuple(NamedValue(f"{index:08x}", tries, "tries") for index, tries in self.tries.items())))


@command("info msrs")
def info_msrs(session: Session) -> NamedValues:
    """Show every MSR that this CPU has and that can be read: number, value, name, and what that means.

    For example:

        info msrs
    """
    named = sorted((index, name) for name, index in vars(MSR).items() if name.isupper() and isinstance(index, int))
    values = ((index, name, _read_msr(session, index)) for index, name in named)
    return NamedValues(
        tuple(
            NamedValue(f"{index:08x}", value, f"{name} {_meaning(session, index, value)}".rstrip())
            for index, name, value in values
            if value is not None
        )
    )


def _meaning(session: Session, index: int, value: int) -> str:
    """What an MSR's value says, in words."""
    match index:
        case MSR.EFER:
            return EFER.describe(value)
        case MSR.SFMASK:
            return f"clears {RFLAGS.describe(value)}" if value else ""
        case MSR.STAR:
            return f"SYSCALL: CS {value >> 32 & 0xFFFF:#x}; SYSRET: CS {value >> 48:#x}" if value else ""
        case MSR.LSTAR | MSR.CSTAR | MSR.SYSENTER_EIP | MSR.SYSENTER_ESP | MSR.FS_BASE | MSR.GS_BASE | MSR.KERNEL_GS_BASE:
            symbol = session.symbols.describe(value) if value else ""
            return f"<{symbol}>" if symbol else ""
        case MSR.PAT:
            return " ".join(_MEMORY_TYPES.get(value >> 8 * entry & 7, "?") for entry in range(8))
        case MSR.APIC_BASE:
            return ApicBase.describe(value & ~_PAGE_ADDRESS) + f", at {value & _PAGE_ADDRESS:#x}"
        case MSR.MTRR_DEF_TYPE:
            return f"{_MEMORY_TYPES.get(value & 0xFF, '?')} {MtrrDefType.describe(value & ~0xFF)}".rstrip(" 0")
        case MSR.MISC_ENABLE:
            return MiscEnable.describe(value)
        case _:
            return ""


def _read_msr(session: Session, index: int) -> int | None:
    """The MSR, or None if it cannot be read. A look of ours must not count as a try of the guest's."""
    msrs = session.machine.msrs
    tries = msrs.unknown_msrs.get(index)
    try:
        return msrs.read(session.machine.cpu, index)
    except GuestFault:
        if tries is None:
            msrs.unknown_msrs.pop(index, None)
        else:
            msrs.unknown_msrs[index] = tries
        return None


@command("info unknown-msrs")
def info_unknown_msrs(session: Session) -> UnknownMsrs:
    """Show the MSRs that the guest tried to use and that this CPU has not.

    For example:

        info unknown-msrs
    """
    return UnknownMsrs(dict(sorted(session.machine.msrs.unknown_msrs.items())))
