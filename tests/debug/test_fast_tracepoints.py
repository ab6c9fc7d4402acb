"""Fast tracepoints: their frames are those of plain ones, and they cost no exit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.gdb_layouts import LONG
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.debug.trace_compiler import NAMES, NOT_KEPT
from gdbstub.agent import Op, decode
from gdbstub.tracing import (
    CollectExpression,
    CollectMemory,
    CollectRegisters,
    Ended,
    Key,
    Plan,
    TraceFrame,
    Tracepoint,
    register_numbers,
)

Guest = Callable[[str], Path]
NUMBERS = {name: number for number, name in enumerate(NAMES)}
GENERAL = sum(1 << number for name, number in NUMBERS.items() if number <= NUMBERS["gs_base"])
KEPT = sum(1 << number for name, number in NUMBERS.items() if number <= NUMBERS["gs_base"] and name not in NOT_KEPT)
RSP, RDI = NUMBERS["rsp"], NUMBERS["rdi"]


def reg(number: int) -> bytes:
    return bytes((Op.REG,)) + number.to_bytes(2, "big")


def const(value: int) -> bytes:
    return bytes((Op.CONST64,)) + value.to_bytes(8, "big")


def frames(
    kernel: Path, where: Sequence[str | int], plans: Sequence[Plan], fast: Sequence[bool], *, size: int = 1 << 22,
    circular: bool = False, passes: int = 0, most: int = 0,
) -> tuple[list[TraceFrame], Machine]:  # fmt: skip
    """What tracepoints collect in a whole run of a guest, or in `most` instructions from `run_fib` on."""
    symbols = load_symbols(kernel.with_suffix(".elf64"))
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(kernel)
    if most:
        start = symbols.find("run_fib")
        assert start is not None
        machine.breakpoints.add(start.address)
        machine.run()
        machine.breakpoints.clear()
    experiment = machine.tracing.experiment
    experiment.buffer.size, experiment.buffer.circular = size, circular
    for number, (place, plan, is_fast) in enumerate(zip(where, plans, fast, strict=True), 1):
        symbol = symbols.find(place) if isinstance(place, str) else None
        address = symbol.address if symbol is not None else int(place)
        key = Key(number, address)
        experiment.define(Tracepoint(key, plan, passes, 5 if is_fast else None), enabled=True)
        experiment.complete(key)
    experiment.start()
    machine.run(max_count=machine.count + most if most else None)
    return list(experiment.buffer), machine


def without_pointers(found: list[TraceFrame]) -> list[TraceFrame]:
    """The frames of a plain tracepoint without the registers that a fast one does not keep."""
    done = []
    for frame in found:
        at, kept = 0, b""
        for number in register_numbers(frame.mask):
            size = LONG.all[number].bits // 8
            if NAMES[number] not in NOT_KEPT:
                kept += frame.registers[at : at + size]
            at += size
        mask = frame.mask & ~sum(1 << NUMBERS[name] for name in NOT_KEPT)
        done.append(replace(frame, mask=mask, registers=kept))
    return done


def both(kernel: Path, where: Sequence[str | int], *plans: Plan, **options: int) -> list[TraceFrame]:
    """The frames, after they were found to be the same for fast and plain tracepoints."""
    plain, machine = frames(kernel, where, plans, [False] * len(plans), **options)  # type: ignore[arg-type]
    fast, other = frames(kernel, where, plans, [True] * len(plans), **options)  # type: ignore[arg-type]
    assert fast == without_pointers(plain)
    assert machine.count == other.count
    assert differences(machine, other) <= 8  # the x87's instruction pointer, which the guest saves once, is the engine's
    return fast


def differences(one: Machine, other: Machine) -> int:
    """From the first byte of RAM that differs to the last."""
    left, right = bytes(one.ram.bytes), bytes(other.ram.bytes)
    if left == right:
        return 0
    places = [at for at, (a, b) in enumerate(zip(left, right, strict=True)) if a != b]
    return places[-1] - places[0] + 1


def test_a_frame_has_what_a_plain_one_has(guest: Guest) -> None:
    plan = Plan(actions=(CollectRegisters(GENERAL), CollectMemory(RSP, 0, 40), CollectMemory(None, 0x106000, 13)))
    found = both(guest("cpubound-small"), ["fib"], plan, most=30_000)
    assert len(found) > 500


def test_hits_cost_no_exit(guest: Guest) -> None:
    plan = Plan(actions=(CollectRegisters(1 << RDI), CollectMemory(RSP, 0, 8)))
    found, plain = frames(guest("cpubound-small"), ["fib"], [plan], [False])
    _, fast = frames(guest("cpubound-small"), ["fib"], [plan], [True])
    assert len(found) > 70_000
    assert plain.engine.exits - fast.engine.exits > len(found) * 9 // 10


@pytest.mark.parametrize("place", ["trap_dispatch", "check_eq", "print"])
def test_kernel_code_with_interrupts_and_floating_point(guest: Guest, place: str) -> None:
    plan = Plan(actions=(CollectRegisters(GENERAL), CollectMemory(RSP, -16, 100)))
    assert both(guest("selftest"), [place], plan)


def test_user_code_is_traced_too(guest: Guest) -> None:
    plan = Plan(actions=(CollectRegisters(GENERAL), CollectMemory(RSP, 0, 16)))
    symbols = load_symbols(guest("selftest").with_suffix(".elf64"))
    places = [symbol.address for symbol in symbols if symbol.name.startswith("user_") and symbol.kind != "data"]
    found = both(guest("selftest"), places, *[plan] * len(places))
    layout = Machine(MachineConfig(memory=1 << 20)).tracing.experiment.layout
    selectors = [frame.register(layout, NUMBERS["cs"]) for frame in found]
    assert any(selector is not None and selector[0] & 3 == 3 for selector in selectors)


def test_conditions_and_expressions(guest: Guest) -> None:
    third = decode(reg(RDI) + const(3) + bytes((Op.EQUAL, Op.END)))
    stack = decode(reg(RSP) + bytes((Op.TRACE_QUICK, 16)) + const(8) + bytes((Op.ADD,)) + const(24) + bytes((Op.TRACE, Op.END)))
    plan = Plan(condition=third, actions=(CollectExpression(stack), CollectRegisters(1 << RDI)))
    found = both(guest("cpubound-small"), ["fib"], plan, most=50_000)
    assert found and all(frame.registers == (3).to_bytes(8, "little") for frame in found)


def test_memory_that_is_not_there_is_left_out(guest: Guest) -> None:
    plan = Plan(actions=(CollectMemory(None, 0x7000_0000_0000, 8), CollectMemory(RSP, 0, 8)))
    found = both(guest("cpubound-small"), ["fib"], plan, most=20_000)
    assert found and all(len(frame.memory) == 1 for frame in found)


def test_fast_and_plain_frames_are_in_the_order_of_their_hits(guest: Guest) -> None:
    plan = Plan(actions=(CollectRegisters(1 << RDI),))
    arguments = guest("cpubound-small"), ["fib", "crc_table", "run_fib"], [plan] * 3
    mixed, _ = frames(*arguments, [True, False, False], most=40_000)
    plain, _ = frames(*arguments, [False] * 3, most=40_000)
    assert mixed == plain
    assert sorted(frame.count for frame in mixed) == [frame.count for frame in mixed]


def test_two_at_one_place_are_both_hit(guest: Guest) -> None:
    plans = Plan(actions=(CollectRegisters(1 << RDI),)), Plan(actions=(CollectRegisters(1 << RSP),))
    both(guest("cpubound-small"), ["fib", "fib"], *plans, most=20_000)


@pytest.mark.parametrize("circular", [False, True])
def test_a_full_buffer_holds_what_it_would(guest: Guest, circular: bool) -> None:
    plan = Plan(actions=(CollectRegisters(1 << RDI), CollectMemory(RSP, 0, 200)))
    arguments = guest("cpubound-small"), ["fib"], [plan]
    fast, machine = frames(*arguments, [True], size=20_000, circular=circular)
    plain, other = frames(*arguments, [False], size=20_000, circular=circular)
    assert fast == plain
    assert machine.tracing.experiment.end == other.tracing.experiment.end
    assert (machine.tracing.experiment.end.reason is Ended.FULL) is not circular


def test_a_pass_count_ends_the_run(guest: Guest) -> None:
    plan = Plan(actions=(CollectRegisters(1 << RDI),))
    found, machine = frames(guest("cpubound-small"), ["fib"], [plan], [True], passes=17)
    assert len(found) == 17
    assert machine.tracing.experiment.end.reason is Ended.PASSES


def test_a_stop_at_the_place_is_one_hit(guest: Guest) -> None:
    """A breakpoint, a step and a continue there do not collect twice."""
    kernel = guest("cpubound-small")
    symbols = load_symbols(kernel.with_suffix(".elf64"))
    fib = symbols.find("fib")
    assert fib is not None
    counts = []
    for fast in (True, False):
        machine = Machine(MachineConfig(memory=64 << 20))
        machine.boot(kernel)
        experiment = machine.tracing.experiment
        key = Key(1, fib.address)
        plan = Plan(actions=(CollectRegisters(1 << RDI),))
        experiment.define(Tracepoint(key, plan, 0, 5 if fast else None), enabled=True)
        experiment.complete(key)
        experiment.start()
        machine.breakpoints.add(fib.address)
        for _ in range(5):
            machine.run()
            machine.step()
        machine.breakpoints.clear()
        machine.run(max_count=machine.count + 10_000)
        counts.append([frame.count for frame in experiment.buffer])
    assert counts[0] == counts[1]
