"""All counters of a machine, by the names that docs/statistics.md explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbgvmm.machine import Machine


def figures_of(machine: Machine) -> dict[str, float]:
    """What `--stats` prints, flat. Times are host seconds, for people only."""
    dispatcher = machine.dispatcher
    figures: dict[str, float] = {"instructions": machine.count}
    figures.update(machine.cache.stats())
    figures.update(machine.mmu.stats())
    figures.update(
        callouts=dispatcher.ledger.callouts,
        chain_exits=dispatcher.ledger.chain_exits,
        slice_exits=dispatcher.ledger.slice_exits,
        window_faults=dispatcher.ledger.window_faults,
        exits=machine.engine.exits,
        interrupts=dispatcher.ledger.interrupts,
        exceptions=sum(dispatcher.ledger.exceptions.values()),
        port_io=machine.callouts.port_callouts.accesses,
        mmio=machine.mmio_accesses,
        cr3_loads=machine.cr3_loads,
        adapted=dispatcher.adaptation.convicted,
        acquitted=dispatcher.adaptation.acquitted,
        adapted_stores=dispatcher.adaptation.adapted_stores,
        guards=dispatcher.watching.guards,
        steps_16_32=dispatcher.stepper.steps,
        seconds_translating=dispatcher.ledger.seconds_translating,
        seconds_hidden_faults=dispatcher.ledger.seconds_hidden_faults,
        seconds_trace_faults=dispatcher.ledger.seconds_trace_faults,
        seconds_callouts=dispatcher.ledger.seconds_callouts,
        seconds_devices=machine.callouts.port_callouts.ports.seconds,
        seconds_total=machine.seconds_total,
    )
    return figures
