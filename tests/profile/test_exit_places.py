"""Where in the guest exits come from, exactly; and that finding it out changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.bt.exit_places import ObservedExit
from dbgvmm.bt.mechanisms import Mechanism, parts
from dbgvmm.bt.watching import Watch
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.profile.places import Places

Booted = Callable[..., Machine]
KERNEL_BASE = 0xFFFF_FFFF_8000_0000
FIP = 8
OF_A_UNIT = frozenset((Mechanism.CHAIN, Mechanism.PRECISE_END))
"""Their place is the start of the unit that was left."""


def observed(machine: Machine) -> list[ObservedExit]:
    seen: list[ObservedExit] = []
    machine.exits.observe(seen.append)
    machine.run()
    machine.exits.forget(seen.append)
    return seen


@pytest.mark.parametrize("name", ["pagetables", "smc"])
def test_count_and_rip_of_an_exit_are_where_another_run_stops(name: str, booted: Booted) -> None:
    """Of every 97th exit that is about an instruction: the same guest, run to that count, stands at that address."""
    exits = observed(booted(name))
    assert [item.count for item in exits] == sorted(item.count for item in exits)
    exact = [item for item in exits if parts(item.key)[0] not in OF_A_UNIT]
    other = booted(name)
    compared = set()
    for item in exact[::97]:
        if item.count <= other.count:
            continue
        other.run(max_count=item.count)
        base = 0 if other.cpu.in_64bit_code else other.cpu.segs[1].base
        assert other.cpu.rip + base == item.rip, parts(item.key)
        compared.add(parts(item.key)[0])
    assert len(compared) >= 3


@pytest.mark.parametrize("user", ["bt", "direct"])
def test_every_exit_is_observed_with_its_own_time(user: str, booted: Booted) -> None:
    machine = booted("smc", user=user)
    exits = observed(machine)
    whole = machine.exits.since()
    assert len(exits) == whole.exits == machine.engine.exits
    for row in whole.rows():
        if row.is_exit:
            mine = [item for item in exits if parts(item.key)[0].title == row.mechanism]
            assert len(mine) == row.count
            assert sum(item.seconds for item in mine) == pytest.approx(row.seconds)
    assert all(0 <= item.seconds <= item.whole for item in exits)


@pytest.mark.parametrize("name", ["exceptions", "smc", "selftest"])
def test_a_guest_that_is_recorded_does_what_it_does_anyway(
    name: str, booted: Booted, guest: Callable[[str], Path]
) -> None:
    area = load_symbols(guest(name).with_suffix(".elf64")).find("area.0")

    def outcome(record: bool) -> tuple[object, ...]:
        machine = booted(name)
        if record:
            machine.exits.keep_places()
            machine.exits.record()
        stop = machine.run()
        if area is not None:
            # An FXSAVE area: the x87's last instruction pointer in it is an address in the TC, which depends on much.
            start = area.address - KERNEL_BASE + FIP
            machine.ram.bytes[start : start + 8] = bytes(8)
        memory = hashlib.sha256(machine.ram.bytes).hexdigest()
        return stop, machine.count, machine.cpu.rip, list(machine.cpu.gpr), machine.cpu.rflags, machine.clock.now_ns(), memory

    assert outcome(True) == outcome(False)


def test_when_nobody_is_told_exits_take_their_short_way(booted: Booted) -> None:
    machine = booted("hello")
    before = machine.engine.handler, machine.engine.after_exit
    machine.exits.keep_places()
    assert machine.engine.handler != before[0]
    machine.exits.drop_places()
    assert (machine.engine.handler, machine.engine.after_exit) == before


def test_observing_goes_on_while_watchpoints_come_and_go(booted: Booted) -> None:
    machine = booted("hello")
    places = machine.exits.keep_places()
    watch = Watch(0x200000, 8)
    machine.run(max_count=1000)
    machine.watchpoints.add(watch)
    machine.run(max_count=2000)
    machine.watchpoints.remove(watch)
    machine.run()
    assert places.count == machine.engine.exits


def test_exits_are_summed_up_by_function(booted: Booted, guest: Callable[[str], Path]) -> None:
    machine = booted("hello")
    machine.symbols.add(load_symbols(guest("hello").with_suffix(".elf64")))
    places = machine.exits.keep_places()
    machine.run()
    by_symbol = {row.place: row for row in places.rows(machine.symbols, by_symbol=True)}
    by_address = places.rows(machine.symbols, by_symbol=False)
    assert by_symbol["boot_entry32"].mechanisms["step"] == 3099
    assert sum(row.count for row in by_symbol.values()) == sum(row.count for row in by_address) == machine.engine.exits
    ports = places.rows(machine.symbols, by_symbol=True, mechanism=Mechanism.PORT)
    assert sum(row.count for row in ports) == machine.exits.since().count_of(Mechanism.PORT)
    assert [row.whole for row in by_address] == sorted((row.whole for row in by_address), reverse=True)


def test_places_beyond_the_bound_are_summed_up() -> None:
    places = Places(most=2)
    for rip in (1, 2, 3, 1, 4):
        places.add(ObservedExit(int(Mechanism.CHAIN), rip, 0, 0.0, 1.0, 1.0))
    assert {rip: cell.count for (_, rip), cell in places.cells.items()} == {1: 2, 2: 1}
    assert places.beyond.count == 2
    assert places.count == 5
