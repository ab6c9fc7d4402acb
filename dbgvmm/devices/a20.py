"""The A20 gate: whether physical address line 20 follows the CPU or is held at zero.

Two outputs control it, and the line is open when either says so (Intel 82371SB data sheet, "A20M#"): the
keyboard controller's output port and port 92h.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class A20State:
    """The two inputs of the gate."""

    keyboard: bool
    fast: bool


class A20Gate:
    """The OR of both controls; `on_change` hears each new level of the line."""

    def __init__(self, on_change: Callable[[bool], None] | None = None) -> None:
        self._on_change = on_change
        self._keyboard = True
        self._fast = False

    @property
    def enabled(self) -> bool:
        """Address line 20 is open."""
        return self._keyboard or self._fast

    @property
    def fast(self) -> bool:
        """What port 92h asks for."""
        return self._fast

    def set_keyboard(self, level: bool) -> None:
        """Drive the keyboard controller's A20 output."""
        self._set(level, self._fast)

    def set_fast(self, level: bool) -> None:
        """Drive port 92h's A20 output."""
        self._set(self._keyboard, level)

    def reset(self) -> None:
        """Power on: open, as firmware hands the machine over."""
        self._set(True, False)

    def state(self) -> A20State:
        """Both inputs."""
        return A20State(self._keyboard, self._fast)

    def load_state(self, state: A20State) -> None:
        """Take over both inputs."""
        self._set(state.keyboard, state.fast)

    def _set(self, keyboard: bool, fast: bool) -> None:
        before = self.enabled
        self._keyboard, self._fast = keyboard, fast
        if self.enabled != before and self._on_change is not None:
            self._on_change(self.enabled)
