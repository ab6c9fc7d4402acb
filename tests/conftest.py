"""Fixtures for all parts: our own guests, built once, and machines that have them loaded."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandTable, Session, command_table
from dbgvmm.debug.symbols import load_symbols

# Nothing in a test run is random: `pytest --hypothesis-profile=search` looks for what the fixed examples do not find.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("search", max_examples=5000, deadline=None)
settings.load_profile("fixed")
if hasattr(providers, "_get_local_constants"):
    # Hypothesis mixes in constants of all modules that are loaded, and that depends on which tests ran in this process.
    providers._get_local_constants = lambda: providers._local_constants

GUESTS = Path(__file__).parent.parent / "guests"
MEMORY = 32 << 20

BootedMachine = Callable[..., Machine]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests come first, so that at the end of a run no process is left alone with some of them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def guest() -> Callable[[str], Path]:
    """`guest("hello")` is the path of a guest's ELF file; its twin with symbols has the suffix `.elf64`."""
    missing = [tool for tool in ("make", "gcc", "ld", "objcopy") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the guests cannot be built without {', '.join(missing)}")
    # Several test processes may want them at once.
    with (Path(tempfile.gettempdir()) / "dbgvmm-guests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(["make", "-s", "-C", str(GUESTS)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return lambda name: GUESTS / "build" / f"{name}.elf"


@pytest.fixture
def booted(guest: Callable[[str], Path]) -> BootedMachine:
    """`booted("hello")` is a machine in front of the guest's first instruction."""

    def boot(name: str, **options: object) -> Machine:
        machine = Machine(MachineConfig(memory=MEMORY, **options))  # type: ignore[arg-type]  # options vary by test
        machine.boot(guest(name))
        return machine

    return boot


@pytest.fixture
def hello(booted: BootedMachine, guest: Callable[[str], Path]) -> Session:
    """A session with the guest `hello` and its symbols, before its first instruction."""
    return Session(booted("hello"), load_symbols(guest("hello").with_suffix(".elf64")))


@pytest.fixture(scope="session")
def table() -> CommandTable:
    """All commands."""
    return command_table()
