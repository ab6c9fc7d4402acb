"""The line at the bottom of the screen."""

from __future__ import annotations

from dbgvmm.commands import Session


def status_line(session: Session) -> str:
    """State, instruction count, where, mode and privilege, and why the guest last stopped."""
    machine = session.machine
    cpu, stop = machine.cpu, machine.last_stop
    if stop is None:
        state, why = "not started", "nothing has run yet"
    else:
        state, why = "ended" if stop.kind.final else "stopped", stop.text
    parts = (state, f"{machine.count:,} instructions", session.name(cpu.rip), f"{cpu.mode.value} CPL {cpu.cpl}", why)
    owners = [f"{owner.owner_name} is connected" for owner in machine.breakpoints.owners]
    return " | ".join((*parts, *owners))
