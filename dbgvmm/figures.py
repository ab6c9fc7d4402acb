"""All counters of a machine, by the names that docs/statistics.md explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgvmm.bt.mechanisms import Mechanism

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


def figures_of(machine: Machine) -> dict[str, float]:
    """What `--stats` prints, flat. Times are host seconds, for people only."""
    dispatcher = machine.dispatcher
    figures: dict[str, float] = {"instructions": machine.count}
    figures.update(machine.cache.stats())
    figures.update(machine.mmu.stats())
    ledger = dispatcher.ledger
    figures.update(
        callouts=ledger.callouts,
        chain_exits=ledger.count_of(Mechanism.CHAIN),
        precise_exits=ledger.count_of(Mechanism.PRECISE_END),
        lookup_misses=ledger.count_of(Mechanism.LOOKUP_MISS),
        slice_exits=ledger.count_of(Mechanism.SLICE),
        window_faults=ledger.count_of(Mechanism.WINDOW_FAULT),
        ad_updates=ledger.count_of(Mechanism.AD_UPDATE),
        exits=machine.engine.exits,
        interrupts=ledger.interrupts,
        exceptions=sum(ledger.exceptions.values()),
        port_io=machine.callouts.port_callouts.accesses,
        mmio=machine.mmio_accesses,
        cr3_loads=machine.cr3_loads,
        adapted=dispatcher.adaptation.convicted,
        acquitted=dispatcher.adaptation.acquitted,
        adapted_stores=dispatcher.adaptation.adapted_stores,
        guards=dispatcher.watching.guards,
        steps_16_32=dispatcher.stepper.steps,
        seconds_monitor=ledger.seconds_of(*(mechanism for mechanism in Mechanism if mechanism is not Mechanism.OUTSIDE)),
        seconds_outside=ledger.seconds_of(Mechanism.OUTSIDE),
        seconds_translating=ledger.seconds_of(Mechanism.TRANSLATION),
        seconds_hidden_faults=ledger.seconds_of(Mechanism.HIDDEN_FAULT, Mechanism.AD_UPDATE),
        seconds_trace_faults=ledger.seconds_of(Mechanism.TRACE),
        seconds_callouts=ledger.seconds_callouts,
        seconds_devices=machine.callouts.port_callouts.ports.seconds,
        seconds_total=machine.seconds_total,
    )
    return figures
