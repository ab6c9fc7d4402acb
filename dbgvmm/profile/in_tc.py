"""Sensitive instructions that are emulated in the translation cache: they never leave, so only execution counters see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iced_x86 import Mnemonic

from dbgvmm.bt.mechanisms import Mechanism, detail_text, parts

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

IN_TC: Final = frozenset(
    (Mnemonic.CLI, Mnemonic.STI, Mnemonic.PUSHF, Mnemonic.PUSHFD, Mnemonic.PUSHFQ, Mnemonic.POPF, Mnemonic.POPFD,
     Mnemonic.POPFQ, Mnemonic.IRETQ, Mnemonic.RDTSC, Mnemonic.PAUSE)
)  # fmt: skip
"""Emulated where nothing unusual is going on; otherwise they are callouts (bt/emit_sensitive.py)."""


def emulated_in_tc(machine: Machine) -> dict[str, int] | None:
    """How often each was carried out in the TC while the machine's counters ran, by mnemonic; None if nothing was counted.

    Exactly: the executions that were counted, less the callouts that the ledger has noted meanwhile.
    """
    counters = machine.counters
    if not counters.total:
        return None
    times: dict[int, int] = {}  # by the number of the mnemonic
    for item, executed in counters.counts().instructions.items():
        mnemonic: int = item.decode().mnemonic
        if item.bits == 64 and mnemonic in IN_TC:
            times[mnemonic] = times.get(mnemonic, 0) + executed
    for interval in counters.intervals:
        for key, (count, _) in interval.cells.items():
            mechanism, mnemonic = parts(key)
            if mechanism is Mechanism.CALLOUT and mnemonic in times:
                times[mnemonic] -= count
    found = {detail_text(Mechanism.CALLOUT, mnemonic): count for mnemonic, count in times.items() if count > 0}
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
