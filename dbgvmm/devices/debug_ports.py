"""Ports that exist for people who debug: POST codes, the debug console, and the debug exit."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbgvmm.devices.bus import PortBus
from dbgvmm.devices.wires import ByteSink

POST_PORT: Final = 0x80
DEBUG_CONSOLE_PORT: Final = 0xE9
DEBUG_EXIT_PORT: Final = 0xF4
_DEBUG_EXIT_PORTS: Final = 4


@dataclass(frozen=True, slots=True)
class PostState:
    """The last code and how many were written."""

    last: int
    count: int


class PostPort:
    """Port 80h: firmware writes progress codes here, kernels write anything to pass a microsecond."""

    def __init__(self) -> None:
        self._last = 0
        self._count = 0

    @property
    def last(self) -> int:
        """The last code written."""
        return self._last

    @property
    def count(self) -> int:
        """How many codes were written since power on."""
        return self._count

    def attach(self, ports: PortBus) -> None:
        """Claim the port."""
        ports.register(POST_PORT, POST_PORT, self)

    def read_port(self, port: int, size: int) -> int:
        """The last code: the port is a spare DMA page register that can be read back."""
        return self._last

    def write_port(self, port: int, value: int, size: int) -> None:
        """Keep the code."""
        self._last = value
        self._count += 1

    def reset(self) -> None:
        """Power on: no codes yet."""
        self._last = self._count = 0

    def state(self) -> PostState:
        """The last code and the count."""
        return PostState(self._last, self._count)

    def load_state(self, state: PostState) -> None:
        """Take both over."""
        self._last, self._count = state.last, state.count


class DebugConsole:
    """Port E9h of Bochs and QEMU: bytes written are output; reading E9h back tells that the port is there."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink

    def attach(self, ports: PortBus) -> None:
        """Claim the port."""
        ports.register(DEBUG_CONSOLE_PORT, DEBUG_CONSOLE_PORT, self)

    def read_port(self, port: int, size: int) -> int:
        """The sign of presence."""
        return DEBUG_CONSOLE_PORT

    def write_port(self, port: int, value: int, size: int) -> None:
        """Put out one byte."""
        self._sink(bytes((value,)))

    def reset(self) -> None:
        """Nothing is kept."""

    def state(self) -> None:
        """Nothing is kept."""

    def load_state(self, state: None) -> None:
        """Nothing is kept."""


class DebugExit:
    """QEMU's isa-debug-exit at F4h: writing `value` ends the run with exit code `value << 1 | 1`."""

    def __init__(self, on_exit: Callable[[int], None]) -> None:
        self._on_exit = on_exit

    def attach(self, ports: PortBus) -> None:
        """Claim the ports."""
        ports.register(DEBUG_EXIT_PORT, DEBUG_EXIT_PORT + _DEBUG_EXIT_PORTS - 1, self, widest=4)

    def read_port(self, port: int, size: int) -> int:
        """Zero, as QEMU's reads."""
        return 0

    def write_port(self, port: int, value: int, size: int) -> None:
        """End the run."""
        self._on_exit(value << 1 | 1)

    def reset(self) -> None:
        """Nothing is kept."""

    def state(self) -> None:
        """Nothing is kept."""

    def load_state(self, state: None) -> None:
        """Nothing is kept."""
