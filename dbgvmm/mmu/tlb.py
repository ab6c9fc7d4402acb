"""When the hardware TLB must forget: the one rule that every part of the MMU obeys.

* Adding or upgrading a shadow entry needs nothing: the engine's MMU walks again on a miss.
* Dropping or downgrading one takes effect before the guest goes on. Hardware would allow it to stay in the TLB until the
  guest flushes (Intel SDM vol. 3A, 4.10.4.3); but the engine sizes its TLB by the host's clock, and so what stays in it
  would be seen or not seen by chance.
"""

from __future__ import annotations

from dbgvmm.hardware.engine import Engine


class TlbState:
    """Flushes the hardware TLB.

    generation: grows with each flush of the guest's; a cache of translations is good for one generation.
    """

    __slots__ = ("_engine", "generation")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.generation = 0

    def outdated(self) -> None:
        """A shadow entry was dropped or downgraded: the TLB may hold what it said."""
        self._engine.needs_flush = True

    def guest_flush(self) -> None:
        """The guest invalidates something. The TLB agrees with the shadow already; copies of translations may not."""
        self.generation += 1

    def flush(self) -> None:
        """Another root, or other rules for all of them: nothing in the TLB holds any more."""
        self.generation += 1
        self._engine.needs_flush = True
