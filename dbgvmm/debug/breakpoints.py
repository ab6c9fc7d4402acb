"""Breakpoints: guest-virtual addresses in front of which translation ends. The guest's memory is never changed.

A unit never contains a breakpoint, and none begins at one: so the dispatcher sees every arrival.
"""

from __future__ import annotations

from collections.abc import Iterator

from dbgvmm.bt.cache import TranslationCache


class Breakpoints:
    """The set of breakpoints of a machine. Users are counted: gdb and the REPL may both want one address."""

    def __init__(self, cache: TranslationCache) -> None:
        self._cache = cache
        self._users: dict[int, int] = {}

    def add(self, rip: int) -> None:
        """Stop before the instruction at `rip`, in whatever address space."""
        self._users[rip] = self._users.get(rip, 0) + 1
        if self._users[rip] == 1:
            self._cache.breakpoints.add(rip)
            self._cache.retire_breakpoint(rip)

    def remove(self, rip: int) -> bool:
        """Take one breakpoint at `rip` away; False if there is none."""
        users = self._users.get(rip, 0)
        if not users:
            return False
        if users > 1:
            self._users[rip] = users - 1
            return True
        del self._users[rip]
        self._cache.breakpoints.discard(rip)
        self._cache.retire_breakpoint(rip)
        return True

    def clear(self) -> None:
        """Remove all."""
        for rip in list(self._users):
            self._users[rip] = 1
            self.remove(rip)

    def __contains__(self, rip: object) -> bool:
        return rip in self._users

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._users))

    def __len__(self) -> int:
        return len(self._users)
