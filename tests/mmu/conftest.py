from __future__ import annotations

from collections.abc import Callable

import pytest
from mmu_machine import MmuMachine


@pytest.fixture
def machine() -> MmuMachine:
    return MmuMachine()


@pytest.fixture(params=["eager", "lazy"])
def either(request: pytest.FixtureRequest) -> MmuMachine:
    """A machine of each validation policy."""
    return MmuMachine(validate=request.param)


@pytest.fixture
def build() -> Callable[..., MmuMachine]:
    return MmuMachine
