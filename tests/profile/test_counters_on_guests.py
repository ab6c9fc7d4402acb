"""Counting on whole guests: it is exact, and they cannot notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandTable, Session
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.hardware.layout import TC_SIZE, TC_VA
from dbgvmm.profile.counters import CountersError
from dbgvmm.profile.counts import ExecutionCounts
from dbgvmm.profile.functions import FunctionCount, FunctionKey, FunctionProfile, function_profile

GUESTS = ("hello", "selftest", "exceptions", "smc", "pagetables", "modes", "triplefault", "cpubound-small")
BootedMachine = Callable[..., Machine]


def run(kernel: Path, *, count: bool, pieces: tuple[int, ...] = (), **options: object) -> tuple[Machine, Stop, bytes]:
    """Run a guest to its end, counting or not; with single steps at the counts in `pieces`."""
    output = bytearray()
    machine = Machine(MachineConfig(memory=64 << 20, **options), output.extend)  # type: ignore[arg-type]  # vary by test
    machine.boot(kernel)
    if count:
        machine.counters.start()
    for at in pieces:
        machine.run(max_count=at)
        for _ in range(20):
            machine.step()
    return machine, machine.run(max_count=2_000_000_000), bytes(output)


def differing_words(one: Machine, other: Machine) -> list[tuple[int, int]]:
    """The quadwords of RAM that are not the same."""
    found = []
    for page in range(0, one.ram.size, 4096):
        if one.ram.bytes[page : page + 4096] != other.ram.bytes[page : page + 4096]:
            words = range(page >> 3, page + 4096 >> 3)
            found += [(one.ram.u64[at], other.ram.u64[at]) for at in words if one.ram.u64[at] != other.ram.u64[at]]
    return found


@pytest.mark.parametrize("name", GUESTS)
def test_all_counts_sum_up_to_the_clock_and_the_guest_cannot_tell(guest: Callable[[str], Path], name: str) -> None:
    plain, stop, text = run(guest(name), count=False)
    counted, same, again = run(guest(name), count=True)
    assert (plain.count, stop.text, text) == (counted.count, same.text, again)
    assert list(plain.cpu.gpr) == list(counted.cpu.gpr)
    assert (plain.cpu.rip, plain.cpu.rflags) == (counted.cpu.rip, counted.cpu.rflags)
    for pair in differing_words(plain, counted):
        # The x87's last instruction pointer in selftest's FXSAVE image is an address of the TC (README, Known gaps).
        assert name == "selftest" and all(TC_VA <= word < TC_VA + TC_SIZE for word in pair)
    counts = counted.counters.counts()
    assert counts.total == counted.count == sum(counts.instructions.values())
    assert counts.total == sum(unit.instructions for unit in counts.units) == sum(counts.pages.values())
    assert all(times > 0 for times in counts.instructions.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [("selftest", {"user": "direct"}), ("pagetables", {"tc_pages": 24}), ("pagetables", {"validate": "lazy"})], ids=str,
)  # fmt: skip
def test_every_way_of_running_is_exact(guest: Callable[[str], Path], name: str, options: dict[str, object]) -> None:
    """User code that would run in place is translated while somebody counts; a small cache is flushed again and again."""
    counted, _, _ = run(guest(name), count=True, pieces=(20_001, 50_000, 100_003), **options)
    counts = counted.counters.counts()
    reference, _, _ = run(guest(name), count=True)
    assert counted.count == reference.count == counts.total == sum(counts.instructions.values())
    assert counts.instructions == reference.counters.counts().instructions
    if "tc_pages" in options:
        assert counted.cache.flushes > 3


def test_counting_cannot_be_switched_while_the_guest_runs(booted: BootedMachine) -> None:
    machine = booted("cpubound-small")
    refused = []

    def service() -> None:
        with pytest.raises(CountersError, match="stop it before"):
            machine.counters.start()
        refused.append(machine.count)

    machine.service = service
    machine.run(max_count=2_500_000)
    assert refused


def test_code_at_one_address_in_two_frames_is_kept_apart(guest: Callable[[str], Path]) -> None:
    """The guest `smc` maps other frames with code at addresses where code has run."""
    machine, _, _ = run(guest("smc"), count=True)
    frames: dict[tuple[int, bool], set[tuple[int, ...]]] = {}
    for item in machine.counters.counts().instructions:
        frames.setdefault((item.address, item.user), set()).add(item.frames)
    assert any(len(found) > 1 for found in frames.values())


# -- by function


def profile(guest: Callable[[str], Path], name: str) -> tuple[FunctionProfile, ExecutionCounts]:
    machine, stop, _ = run(guest(name), count=True)
    assert stop.kind in (StopKind.EXIT, StopKind.HALT)
    machine.symbols.add(load_symbols(guest(name).with_suffix(".elf64")))
    counts = machine.counters.counts()
    return function_profile(counts, machine.symbols), counts


def named(found: FunctionProfile, name: str) -> FunctionCount:
    return next(item for item in found.functions.values() if item.name == name)


def fib_calls(n: int) -> int:
    """Calls that fib(n) makes, its own included."""
    return 1 if n < 2 else 1 + fib_calls(n - 1) + fib_calls(n - 2)


def test_calls_of_a_recursive_function_are_as_many_as_mathematics_says(guest: Callable[[str], Path]) -> None:
    """guests/cpubound/mix.c: fib(20 + round % 3), in so many rounds that fib(20), fib(21) ... is called from outside."""
    found, _ = profile(guest, "cpubound-small")
    fib, run_fib = named(found, "fib"), named(found, "run_fib")
    outside = [arc for arc in found.arcs if arc.callee == fib.key and arc.caller == run_fib.key]
    rounds = sum(arc.times for arc in outside)
    assert rounds > 0
    assert fib.arrivals == fib.called == sum(fib_calls(20 + number % 3) for number in range(rounds))
    assert fib.otherwise == fib.jumped == 0
    assert fib.inclusive == fib.instructions
    assert run_fib.inclusive == run_fib.instructions + fib.instructions


def test_calls_through_pointers_are_known_by_site_and_target(guest: Callable[[str], Path]) -> None:
    """kmain runs eight functions out of a table; one of them sorts with three functions that compare."""
    found, counts = profile(guest, "cpubound-small")
    sort, kmain = named(found, "run_sort"), named(found, "kmain")
    comparing = [named(found, name) for name in ("by_low_half", "descending", "ascending")]
    called = {arc.callee: arc.times for arc in found.arcs if arc.caller == sort.key and arc.indirect}
    assert called == {item.key: item.arrivals for item in comparing}
    assert sum(called.values()) > 100_000
    assert len([arc for arc in found.arcs if arc.caller == kmain.key and arc.indirect]) == 8
    assert not found.elsewhere
    assert all(item.otherwise == 0 for item in (sort, *comparing))
    assert kmain.inclusive + 3_200 > counts.total
    for item, targets in counts.indirect_calls.items():
        assert sum(targets.values()) == counts.instructions[item]


def test_functions_share_all_instructions_and_calls_match_the_counts_of_their_instructions(
    guest: Callable[[str], Path]
) -> None:
    found, counts = profile(guest, "selftest")
    assert sum(item.instructions for item in found.functions.values()) == counts.total == found.total
    assert counts.user_total == sum(item.instructions for item in found.functions.values() if item.user) > 100_000
    for arc in found.arcs:
        executed = counts.at(arc.site, user=arc.caller.user)
        assert arc.times <= executed if arc.indirect else arc.times == executed
    for item in found.functions.values():
        assert item.arrivals == counts.at(item.address, user=item.user) or not item.named
        assert item.inclusive >= item.instructions


def test_a_page_table_is_filled_by_a_loop_of_512_rounds(guest: Callable[[str], Path]) -> None:
    """guests/lib/boot.S: `entry: mov %eax, (%edi) ... loop` fills a page table on the way to long mode, in 32-bit code."""
    found, counts = profile(guest, "hello")
    assert found.functions[FunctionKey(0x100000 + 0xC, False)].name == "boot_entry32"
    loop = [item for item, times in counts.instructions.items() if times == 512]
    assert len(loop) == 6 and {item.bits for item in loop} == {32}
    assert counts.total == 3569


def test_conditions_and_watchpoints_do_not_disturb_the_counts(guest: Callable[[str], Path], table: CommandTable) -> None:
    """Conditions are compiled into the units that are counted; beside a watched word, instructions get guards."""
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("cpubound-small"))
    session = Session(machine, load_symbols(guest("cpubound-small").with_suffix(".elf64")))
    machine.counters.start()
    fib = machine.symbols.find("fib")
    assert fib is not None
    table.execute(session, "break fib if $rdi == 1000")
    table.execute(session, "break by_low_half if $rdi > 0 && $rdi == $rsi")
    table.execute(session, "until run_fib")
    table.execute(session, "watch $rsp-0x800 8")
    assert len(machine.cache.probes) == 2
    stop = machine.run(max_count=40_000_000)
    assert stop.kind is StopKind.EXIT
    assert machine.dispatcher.watching.guards > 0
    counts = machine.counters.counts()
    assert counts.total == machine.count == sum(counts.instructions.values())
    assert counts.at(fib.address) == sum(fib_calls(20 + number % 3) for number in range(4))
