"""When the hardware TLB must forget: the one rule that every part of the MMU obeys.

* Adding or upgrading a shadow entry needs nothing: the engine's MMU walks again on a miss.
* Dropping or downgrading one because the guest changed its tables, or because we want the memory back, may stay in the
  TLB until the guest flushes, as on hardware (Intel SDM vol. 3A, 4.10.4.3): the TLB is then `stale`.
* Downgrading for a trace takes effect at once: the next write has to be seen.
"""

from __future__ import annotations

from dbgvmm.hardware.engine import Engine


class TlbState:
    """Whether the hardware TLB may hold what the shadow tables no longer say.

    generation: grows at each flush; a cache of translations is good for one generation.
    """

    __slots__ = ("_engine", "generation", "stale")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.stale = False
        self.generation = 0

    def guest_flush(self) -> None:
        """The guest invalidates something: from now on the TLB must agree with the shadow."""
        self.generation += 1
        if self.stale:
            self.stale = False
            self._engine.needs_flush = True

    def flush(self) -> None:
        """The TLB must agree with the shadow from now on, and is known not to."""
        self.generation += 1
        self.stale = False
        self._engine.needs_flush = True
