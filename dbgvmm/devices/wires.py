"""The kinds of wire that connect a device to its surroundings."""
from __future__ import annotations

from collections.abc import Callable

IrqLine = Callable[[bool], None]
"""An interrupt request line: called with its new level. Setting the same level again is harmless."""

ByteSink = Callable[[bytes], None]
"""Where a device's output goes: a serial backend's `write`, a list's `append`..."""

Signal = Callable[[], None]
"""A one-shot request to the machine: reset, power off."""


def unconnected_irq(level: bool) -> None:
    """An interrupt line that leads nowhere."""
