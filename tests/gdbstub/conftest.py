"""Fixtures: the example machine and a debugger's end of a session with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rsp_client import Client
from rsp_machine import Machine


@pytest.fixture
def machine() -> Machine:
    """A machine of one CPU that runs the endless loop."""
    return Machine()


@pytest.fixture
def client(machine: Machine) -> Client:
    """A debugger in a session with `machine`, having told no features."""
    return Client(machine)
