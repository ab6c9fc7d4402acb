from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from mmu_machine import MmuMachine

from dbgvmm.mmu.consistency import check_shadow


def checked(machine: MmuMachine) -> Iterator[MmuMachine]:
    """The machine; after the test, its shadow must be what the guest's tables say."""
    yield machine
    machine.close_forced()
    assert [str(finding) for finding in check_shadow(machine.mmu).errors] == []


@pytest.fixture
def machine() -> Iterator[MmuMachine]:
    yield from checked(MmuMachine())


@pytest.fixture(params=["eager", "lazy"])
def either(request: pytest.FixtureRequest) -> Iterator[MmuMachine]:
    """A machine of each validation policy."""
    yield from checked(MmuMachine(validate=request.param))


@pytest.fixture
def build() -> Iterator[Callable[..., MmuMachine]]:
    made: list[MmuMachine] = []

    def build(*args: object, **options: object) -> MmuMachine:
        made.append(MmuMachine(*args, **options))  # type: ignore[arg-type]  # options vary by test
        return made[-1]

    yield build
    for machine in made:
        list(checked(machine))
