"""Which task runs, as the sampler asks: at every sample, of a guest whose system may only be there later."""

from __future__ import annotations

from typing import Final

from dbgvmm.guest_os import GuestOs, GuestOsError, OsFinder
from dbgvmm.profile.samples import Task

_LOOK_EVERY: Final = 512
"""Samples between two looks for a system."""


class CurrentTask:
    """Asks the guest's system. With the system its kernel's names and unwind tables are known too."""

    def __init__(self, finder: OsFinder) -> None:
        self._finder = finder
        self._asked = 0
        self._system: GuestOs | None = None

    def __call__(self) -> Task | None:
        """(pid, name), None if nobody knows."""
        if not self._asked % _LOOK_EVERY:
            self._finder.recognise()
            self._system = self._finder.known()
        self._asked += 1
        if self._system is None:
            return None
        try:
            task = self._system.current_task()
        except GuestOsError:
            self._system = None  # it cannot tell; it is asked again when systems are looked for
            return None
        return None if task is None else (task.pid, task.name)


__all__ = ["CurrentTask"]
