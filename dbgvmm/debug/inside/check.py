"""The consistency check of a whole machine: mmu/consistency.py, told what the TC's pages and the traces are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgvmm.mmu.consistency import CodeOwner, Consistency, check_shadow

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


def check_machine(machine: Machine) -> Consistency:
    """Check shadow tables, traces and code windows. Only while the machine stands still."""

    def owner(page: int) -> CodeOwner | None:
        tc_page = machine.cache.tc_pages.get(page)
        return None if tc_page is None else tc_page.owner

    return check_shadow(machine.mmu, owner, machine.cache.by_frame)
