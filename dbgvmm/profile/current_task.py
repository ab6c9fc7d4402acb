"""Which task runs, as the sampler asks: at every sample, of a guest whose system may only be there later."""

from __future__ import annotations

from typing import Final

from dbgvmm.cpu.state import VCpu
from dbgvmm.guest_os import GuestOs, GuestOsError, OsFinder
from dbgvmm.profile.samples import Task

_FIRST_WAIT: Final = 64
"""Samples to the second look for a system; each further wait is twice as long."""
_KERNEL_HALF: Final = 1 << 63


class CurrentTask:
    """Asks the guest's system. With the system its kernel's names and unwind tables are known too.

    To look for one costs milliseconds. So that is done only in a guest that has told its CPU where system calls go (a kernel
    in the upper half), and less and less often.
    """

    def __init__(self, finder: OsFinder, cpu: VCpu) -> None:
        self._finder = finder
        self._cpu = cpu
        self._entry = 0
        self._wait = self._left = 0
        self._system: GuestOs | None = None

    def __call__(self) -> Task | None:
        """(pid, name), None if nobody knows."""
        entry = self._cpu.lstar
        if not entry:
            return None
        if entry != self._entry:
            self._entry, self._system = entry, None
            self._wait, self._left = _FIRST_WAIT, 0
        if self._system is None:
            if entry < _KERNEL_HALF:
                return None
            if self._left:
                self._left -= 1
                return None
            self._look()
            if self._system is None:
                return None
        try:
            return self._system.running()
        except GuestOsError:
            self._system = None  # it cannot tell, now
            return None

    def _look(self) -> None:
        self._left = self._wait
        self._wait *= 2
        self._finder.recognise()
        self._system = self._finder.known()


__all__ = ["CurrentTask"]
