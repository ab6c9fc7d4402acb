"""A guest that was counted from its first instruction to its end, once for all tests here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.symbols import load_symbols


@pytest.fixture(scope="session")
def counted(guest: Callable[[str], Path]) -> Machine:
    """The guest `selftest` with its symbols, run to its end; its counters run."""
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("selftest"))
    machine.symbols.add(load_symbols(guest("selftest").with_suffix(".elf64")))
    machine.counters.start()
    machine.run(max_count=2_000_000_000)
    return machine
