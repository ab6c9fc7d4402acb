"""The line at the bottom of the screen."""

from __future__ import annotations

from dbgvmm.commands import Session
from dbgvmm.guest_os import GuestOsError


def status_line(session: Session) -> str:
    """State, instruction count, where, mode and privilege, the task if it is known, and why the guest last stopped."""
    machine = session.machine
    cpu, stop = machine.cpu, machine.last_stop
    if stop is None:
        state, why = "not started", "nothing has run yet"
    else:
        state, why = "ended" if stop.kind.final else "stopped", stop.text
    where = session.name(cpu.rip), f"{cpu.mode.value} CPL {cpu.cpl}", *_task(session)
    parts = (state, f"{machine.count:,} instructions", *where, why)
    owners = [f"{owner.owner_name} is connected" for owner in machine.breakpoints.owners]
    return " | ".join((*parts, *owners))


def _task(session: Session) -> tuple[str, ...]:
    """The running task's name, where the guest's system has been found by somebody before: the prompt looks for nothing."""
    try:
        system = session.machine.os_finder.known()
        task = None if system is None else system.current_task()
    except GuestOsError:
        return ()
    return () if task is None else (f"{task.name} ({task.pid})",)
