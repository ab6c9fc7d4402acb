"""A machine that is stopped and goes on runs as one that was never stopped."""

from __future__ import annotations

from collections.abc import Callable

from dbgvmm import Machine
from dbgvmm.debug.stops import StopKind

BootedMachine = Callable[..., Machine]


def run(machine: Machine, pause: int) -> tuple[int, bytes, int]:
    """To the guest's end, with a stop at the look outside of that number (-1: at each); with how many there were."""
    looks = 0

    def service() -> None:
        nonlocal looks
        looks += 1
        if pause in (looks, -1):
            machine.request_stop()

    machine.service = service
    while machine.run().kind is StopKind.INTERRUPT:
        pass
    return machine.count, bytes(machine.serial_log), looks


def test_a_stop_between_two_slices_or_in_a_hlt_changes_nothing(booted: BootedMachine) -> None:
    count, text, looks = run(booted("selftest"), 0)
    assert looks > 20, "most of them while the guest waits in HLT for the timer"
    for pause in (-1, 1, 2, 3, looks):
        assert run(booted("selftest"), pause)[:2] == (count, text), pause
