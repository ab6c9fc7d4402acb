"""What became of units: the last ones that died, why, when and through whom; and how often each reason occurred.

A record is one tuple in a ring, so that a guest which rewrites its code for days costs no more memory than one that does it
for a second. Nothing in the monitor depends on it: it is for people.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from dbgvmm.bt.units import TranslationUnit

REMEMBERED: Final = 1 << 14
"""Dead units that are remembered."""
NOBODY: Final = -1
"""In the place of a guest address: no guest instruction did it, or it is not known which."""

CODE_WRITTEN: Final = "guest wrote its code"
BECAME_DATA: Final = "its page became data"
CONVICTED: Final = "a store in it kept hitting traces"
ACQUITTED: Final = "a store in it hits no trace any more"
GUARDED: Final = "an access in it kept hitting a watched page"
UNGUARDED: Final = "watchpoint removed"
BREAKPOINT: Final = "breakpoint"
FLUSHED: Final = "the TC was flushed"


class DeadUnit(NamedTuple):
    """A unit that is no more. born, died: instruction counts. by: the guest instruction that was the cause (the writer of its
    code, the store that was found guilty), or NOBODY."""

    guest_rip: int
    user: bool
    born: int
    died: int
    why: str
    by: int
    instructions: int
    guest_size: int
    tc_start: int
    tc_size: int


class UnitHistory:
    """The ring of the dead (oldest first) and the reasons' counts since power-on."""

    __slots__ = ("_ring", "reasons")

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._ring: deque[tuple[int, bool, int, int, str, int, int, int, int, int]] = deque(maxlen=limit)
        self.reasons: dict[str, int] = {}

    def bury(self, unit: TranslationUnit, now: int, why: str, by: int) -> None:
        """The unit has died."""
        self.reasons[why] = self.reasons.get(why, 0) + 1
        self._ring.append((
            unit.guest_rip, unit.page.user, unit.born, now, why, by, unit.length, len(unit.guest_bytes), unit.tc_start,
            unit.tc_end - unit.tc_start,
        ))  # fmt: skip

    @property
    def dead(self) -> list[DeadUnit]:
        """Those that are remembered, oldest first."""
        return [DeadUnit(*dead) for dead in self._ring]

    def of(self, guest_rip: int) -> list[DeadUnit]:
        """The dead that began at a guest address, oldest first."""
        return [DeadUnit(*dead) for dead in self._ring if dead[0] == guest_rip]

    @property
    def forgotten(self) -> int:
        """How many of the dead are not remembered any more."""
        return sum(self.reasons.values()) - len(self._ring)


__all__ = ["DeadUnit", "NOBODY", "UnitHistory"]
