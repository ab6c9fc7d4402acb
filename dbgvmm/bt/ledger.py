"""The ledger of exits: how often each way out of translated code was taken, and the host's time behind it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ExitLedger:
    """Counters since power-on; times are host seconds, for people only."""

    interrupts: int = 0
    callouts: int = 0
    chain_exits: int = 0
    slice_exits: int = 0
    window_faults: int = 0
    exceptions: dict[int, int] = field(default_factory=dict)
    """By vector: exceptions that were delivered to the guest."""
    callouts_by_mnemonic: dict[int, int] = field(default_factory=dict)
    seconds_translating: float = 0.0
    seconds_hidden_faults: float = 0.0
    seconds_trace_faults: float = 0.0
    seconds_callouts: float = 0.0

    def count_exception(self, vector: int) -> None:
        """One more is delivered."""
        self.exceptions[vector] = self.exceptions.get(vector, 0) + 1
