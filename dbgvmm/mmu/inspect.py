"""The shadow as the hardware would walk it, for people and tests."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.hardware.layout import MONITOR_PA, MONITOR_SIZE
from dbgvmm.hardware.memory import FramePool
from dbgvmm.hardware.paging import PTE


@dataclass(frozen=True)
class ShadowTranslation:
    """What the hardware finds: the physical address, the combined rights, and the five entries (PML5 first)."""

    physical: int
    writable: bool
    user: bool
    executable: bool
    entries: tuple[int, ...]


def shadow_walk(frames: FramePool, root: int, va: int) -> ShadowTranslation | None:
    """Walk the 5-level tables at physical address `root`; None if `va` is not mapped.

    Raises ValueError if a table entry leads outside the monitor's memory: a broken shadow.
    """
    table = root
    entries: list[int] = []
    rights, forbidden = PTE.W | PTE.U, 0
    for shift in (48, 39, 30, 21, 12):
        if not MONITOR_PA <= table < MONITOR_PA + MONITOR_SIZE:
            raise ValueError(f"the shadow of {va:#x} has a table at {table:#x}, outside the monitor's memory")
        entry = frames.u64[frames.index(table) + (va >> shift & 511)]
        if not entry & PTE.P:
            return None
        entries.append(entry)
        rights &= entry
        forbidden |= entry
        table = entry & PTE.ADDRESS
    return ShadowTranslation(
        table | va & 0xFFF, bool(rights & PTE.W), bool(rights & PTE.U), not forbidden & PTE.NX, tuple(entries)
    )
