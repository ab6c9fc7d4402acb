"""Whether the guest's tables let an access through, and which rule of the manual decides: Intel SDM vol. 3A, 4.6 and 4.7.

The rules are looked up for people here, apart from the walk that the guest's accesses take (walk.py); a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.cpu.bits import CR0, CR4, EFER, PageFaultError
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.access import FETCH, USER, WRITE
from dbgvmm.mmu.mmu import ShadowMmu
from dbgvmm.mmu.roots import Root
from dbgvmm.mmu.walk import WalkReport

_PAGING: Final = "SDM vol. 3A 4.7"
_RIGHTS: Final = "SDM vol. 3A 4.6.1"


@dataclass(frozen=True)
class Verdict:
    """allowed, and if not: the error code, the rule in words, where it is written, which level's entry denies ("" for none)."""

    allowed: bool
    error_code: int
    rule: str
    source: str
    level: str


def access_words(access: int) -> str:
    """An access as people say it: "a user's write"."""
    who = "user" if access & USER else "supervisor"
    return f"{who} {'fetch' if access & FETCH else 'write' if access & WRITE else 'read'}"


def judge(mmu: ShadowMmu, root: Root, report: WalkReport, access: int) -> Verdict:
    """What an access (READ, WRITE, FETCH, or-ed with USER) by the instruction at hand would meet, now."""
    cpu = mmu.cpu
    if not report.levels:
        return Verdict(True, 0, "paging is off (CR0.PG=0): every address is itself", "SDM vol. 3A 4.1.1", "")
    nx = bool(cpu.efer & EFER.NXE)
    smep, smap = bool(cpu.cr4 & CR4.SMEP), bool(cpu.cr4 & CR4.SMAP)
    code = access & (WRITE | USER) | (PageFaultError.I if access & FETCH and (nx or smep) else 0)
    last = report.levels[-1]
    if report.gpa is None:
        if not last.entry & PTE.P:
            return Verdict(False, code, f"{last.name} is not present (P=0)", _PAGING, last.name)
        code |= PageFaultError.P | PageFaultError.RSVD
        return Verdict(False, code, f"{last.name} has a reserved bit set", "SDM vol. 3A 4.7, 4.5.4", last.name)
    denied = code | PageFaultError.P

    def first_without(bit: int) -> str:
        return next((level.name for level in report.levels if not level.entry & bit), "")

    if access & USER and not report.user:
        return Verdict(False, denied, "a user access to a supervisor page (U/S=0 at some level)", _RIGHTS, first_without(PTE.U))
    if access & WRITE and not report.writable and (access & USER or cpu.cr0 & CR0.WP):
        who = "a user write" if access & USER else "a supervisor write with CR0.WP=1"
        return Verdict(False, denied, f"{who} to a read-only page (R/W=0 at some level)", _RIGHTS, first_without(PTE.W))
    if not access & USER and report.user:
        if access & FETCH and smep:
            return Verdict(False, denied, "a supervisor fetch from a user page with CR4.SMEP=1", _RIGHTS, "")
        if not access & FETCH and smap and not mmu.read_ac():
            return Verdict(False, denied, "a supervisor access to a user page with CR4.SMAP=1 and EFLAGS.AC=0", _RIGHTS, "")
    if access & FETCH and not report.executable:
        level = next((level.name for level in report.levels if level.entry & PTE.NX), "")
        return Verdict(False, denied, "a fetch from a no-execute page (XD=1 at some level)", _RIGHTS, level)
    rule = f"the guest's tables allow a {access_words(access)}"
    if access & WRITE and not access & USER and not report.writable:
        rule += " to a read-only page, as CR0.WP=0"
    return Verdict(True, 0, rule, _RIGHTS, "")
