"""Hooks are called exactly where and as often as things happen, and the guest does not notice."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable

import pytest

from dbgvmm import Machine
from dbgvmm.bt.watching import Watch
from dbgvmm.cpu.bits import EFER, MSR, Vector
from dbgvmm.debug.hits import (
    BreakpointHit,
    Cr3Hit,
    ExceptionHit,
    Hit,
    InterruptHit,
    MemoryHit,
    MsrHit,
    PortHit,
    SyscallHit,
    SyscallReturnHit,
)
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.symbols.known import UnknownSymbol

Boot = Callable[..., Machine]
COM1 = 0x3F8


@pytest.fixture
def with_symbols(booted: Boot) -> Boot:
    def boot(name: str, **options: object) -> Machine:
        machine = booted(name, **options)
        machine.load_symbols()
        return machine

    return boot


def fingerprint(machine: Machine) -> tuple[object, ...]:
    """All of the guest's state, but for what FXSAVE keeps of the x87's last instruction: that is an address of the TC's."""
    ram = bytearray(machine.ram.bytes)
    if "area.0" in machine.symbols:
        area = machine.memory.translate(machine.symbols["area.0"].address).gpa
        assert area is not None
        ram[area + 8 : area + 24] = bytes(16)
    return machine.count, machine.cpu.save(), hashlib.sha256(ram).hexdigest(), machine.serial.text


def test_a_breakpoint_hook_stands_in_front_of_each_call(with_symbols: Boot) -> None:
    machine = with_symbols("cpubound-small")
    seen: list[tuple[int, int, int]] = []

    @machine.on_breakpoint("check_eq")
    def checked(hit: BreakpointHit) -> None:
        assert (hit.count, hit.rip) == (machine.count, machine.registers.rip)
        assert hit.rip == machine.symbols["check_eq"].address
        seen.append((hit.count, machine.registers.rsi, machine.registers.rdx))

    assert machine.run().kind is StopKind.EXIT
    assert len(seen) == checked.calls == 8
    assert all(got == want for _, got, want in seen) and seen[1][1] == 0x8394139A
    assert [count for count, _, _ in seen] == sorted({count for count, _, _ in seen})


def test_a_port_hook_sees_each_byte_that_is_printed(booted: Boot) -> None:
    machine = booted("hello")
    printed = bytearray()
    dlab = False

    @machine.on_port(COM1 + 3, reads=False)
    def line_control(hit: PortHit) -> None:
        nonlocal dlab
        dlab = bool(hit.value & 0x80)

    @machine.on_port(COM1, reads=False)
    def data(hit: PortHit) -> None:
        assert (hit.port, hit.size, hit.write) == (COM1, 1, True) and hit.count == machine.count
        if not dlab:
            printed.append(hit.value)

    machine.run()
    assert printed.decode() == machine.serial.text and "Hello from long mode.\r\n" in machine.serial.text
    assert data.calls == len(printed) + 1  # the lower byte of the divisor


@pytest.mark.parametrize("guest_name", ["exceptions", "selftest"])
def test_exception_and_interrupt_hooks_see_what_is_delivered(booted: Boot, guest_name: str) -> None:
    machine = booted(guest_name)
    vectors: Counter[int] = Counter()

    @machine.on_exception()
    def raised(hit: ExceptionHit) -> None:
        if hit.vector != Vector.DB:
            assert (hit.count, hit.rip) == (machine.count, machine.registers.rip)
        assert (hit.address is not None) == (hit.vector == Vector.PF)
        vectors[hit.vector] += 1

    @machine.on_interrupt()
    def interrupted(hit: InterruptHit) -> None:
        assert (hit.count, hit.rip) == (machine.count, machine.registers.rip)

    machine.run()
    ledger = machine.dispatcher.ledger
    assert vectors and vectors == {vector: times for vector, times in ledger.exceptions.items() if times}
    assert interrupted.calls == ledger.interrupts


def test_an_exception_hook_that_mends_the_reason_prevents_the_exception(with_symbols: Boot) -> None:
    machine = with_symbols("triplefault")
    skipped = []

    @machine.on_exception(Vector.UD)
    def skip(hit: ExceptionHit) -> bool:
        skipped.append(hit.machine.memory[hit.rip : hit.rip + 2])
        hit.machine.registers.rip += 2
        return len(skipped) == 2

    stop = machine.run()
    assert skipped[0] == b"\x0f\x0b" and stop.kind in (StopKind.SCRIPT, StopKind.HALT, StopKind.TRIPLE_FAULT)
    assert Vector.UD not in machine.dispatcher.ledger.exceptions


def test_a_watch_hook_knows_the_instruction_and_the_new_value(with_symbols: Boot) -> None:
    machine = with_symbols("selftest")
    values: list[int] = []
    writers: Counter[str] = Counter()

    @machine.on_watch("tick_page", 8)
    def written(hit: MemoryHit) -> None:
        values.append(hit.value)
        writers[machine.symbols.describe(hit.rip).partition("+")[0]] += 1
        assert hit.write and hit.rip != machine.registers.rip

    machine.run()
    assert set(writers) == {"tick", "tick_without_eoi", "test_interrupts"} and writers["tick"] >= 23
    assert all(abs(b - a) <= 1 or b == 0 for a, b in itertools.pairwise(values))


def test_hooks_on_overlapping_ranges_are_all_called(with_symbols: Boot) -> None:
    machine = with_symbols("selftest")
    start = machine.symbols["tick_page"].address
    hooks = [machine.on_watch(start, 8)(lambda hit: None), machine.on_watch(start - 16, 17)(lambda hit: None)]
    beside = machine.on_watch(start + 8, 8)(lambda hit: None)
    machine.watchpoints.add(Watch(start, 8))
    stops = 0
    while machine.run().kind is StopKind.WATCHPOINT:
        stops += 1
    assert stops == hooks[0].calls == hooks[1].calls > 20 and beside.calls < stops


def test_msr_and_cr3_hooks(booted: Boot) -> None:
    machine = booted("pagetables")
    loads: list[tuple[int, int]] = []
    values: list[int] = []

    @machine.on_cr3()
    def loaded(hit: Cr3Hit) -> None:
        assert hit.new == machine.registers.cr3 and b"\x0f\x22" in machine.memory[hit.rip : hit.rip + 3]
        loads.append((hit.old, hit.new))

    @machine.on_msr(MSR.EFER, reads=False)
    def efer(hit: MsrHit) -> None:
        assert hit.write and machine.memory[hit.rip : hit.rip + 2] == b"\x0f\x30"
        values.append(hit.value & EFER.NXE)

    machine.run()
    assert loaded.calls == len(loads) == machine.cr3_loads
    assert all(before == old for (_, before), (old, _) in itertools.pairwise(loads))
    assert efer.calls == len(values) and values[0] == 0 and EFER.NXE in values


def test_system_calls_and_their_results(booted: Boot) -> None:
    machine = booted("selftest")
    calls: list[tuple[int, int]] = []
    results: list[tuple[int, int]] = []

    @machine.on_syscall()
    def entered(hit: SyscallHit) -> None:
        assert machine.registers.rip == hit.rip == machine.registers.lstar and machine.cpu.cpl == 0
        assert machine.memory[hit.call.return_address - 2 : hit.call.return_address] == b"\x0f\x05"
        calls.append((hit.number, hit.arguments[0]))

    @machine.on_syscall_return()
    def returned(hit: SyscallReturnHit) -> None:
        assert machine.cpu.cpl == 3 and machine.registers.rip == hit.rip == hit.call.return_address
        assert hit.result == machine.registers.rax
        results.append((hit.number, hit.result))

    @machine.on_syscall(101, 102)
    def some(hit: SyscallHit) -> None:
        assert hit.number in (101, 102)

    machine.run()
    assert calls[:3] == [(0, 100), (101, 101), (102, 102)] and some.calls == 2
    # The guest's system call adds 1 to its argument, which is the next one's number.
    assert results[:3] == [(0, 101), (101, 102), (102, 103)]
    assert len(calls) == len(results)


def test_the_guest_does_not_notice_hooks(with_symbols: Boot) -> None:
    plain = with_symbols("selftest")
    plain.run()
    hooked = with_symbols("selftest")
    calls: Counter[str] = Counter()

    def count(hit: Hit) -> None:
        calls[type(hit).__name__] += 1

    for decorate in (
        hooked.on_breakpoint("check_eq"), hooked.on_watch("tick_page"), hooked.on_port(COM1), hooked.on_msr(),
        hooked.on_exception(), hooked.on_interrupt(), hooked.on_cr3(), hooked.on_syscall(), hooked.on_syscall_return(),
    ):  # fmt: skip
        decorate(count)
    hooked.run()
    assert len(calls) == 9
    assert fingerprint(hooked) == fingerprint(plain)


def test_a_breakpoint_behind_a_hooks_event_still_stops(with_symbols: Boot) -> None:
    """The hook's stop at the very place of somebody's breakpoint must not count as having been there."""
    machine = with_symbols("selftest")
    seen: list[int] = []
    machine.on_interrupt()(lambda hit: seen.append(hit.rip))
    machine.run(max_count=400_000)
    handler = seen[-1]
    other = with_symbols("selftest")
    other.on_interrupt()(lambda hit: None)
    other.breakpoints.add(handler)
    stop = other.run()
    assert (stop.kind, other.registers.rip) == (StopKind.BREAKPOINT, handler)


def test_steps_and_limits_count_through_hooks(with_symbols: Boot) -> None:
    machine = with_symbols("selftest")
    hook = machine.on_port()(lambda hit: None)
    machine.run(max_count=20_000)
    calls, count = hook.calls, machine.count
    assert count == 20_000 and calls
    assert machine.run(steps=50_000).kind is StopKind.STEP
    assert machine.count == 70_000 and hook.calls > calls


def test_true_or_a_stop_from_a_handler_ends_the_run_there(with_symbols: Boot) -> None:
    machine = with_symbols("hello")
    hook = machine.on_breakpoint("kmain")(lambda hit: True)
    stop = machine.run()
    assert stop.kind is StopKind.SCRIPT and "arrived at 0x106000 <kmain>" in stop.text
    assert machine.registers.rip == 0x106000 and machine.last_stop is stop
    hook.remove()
    mine = Stop(StopKind.SCRIPT, "mine")
    machine.on_port(COM1)(lambda hit: mine)
    assert machine.run() is mine


def test_hooks_come_and_go_while_they_are_called(with_symbols: Boot) -> None:
    machine = with_symbols("cpubound-small")
    order: list[str] = []

    @machine.on_breakpoint("check_eq")
    def first(hit: BreakpointHit) -> None:
        order.append("first")
        if len(order) == 1:
            machine.on_breakpoint("check_eq")(lambda hit: order.append("later"))
            second.remove()
        if first.calls == 3:
            first.remove()
            first.remove()

    @machine.on_breakpoint("check_eq")
    def second(hit: BreakpointHit) -> None:
        order.append("second")

    machine.run()
    assert order == ["first", *["first", "later"] * 2, *["later"] * 5]
    assert [hook.active for hook in (first, second)] == [False, False]


def test_what_a_handler_raises_leaves_the_run_and_the_machine_whole(with_symbols: Boot) -> None:
    machine = with_symbols("cpubound-small")

    @machine.on_breakpoint("check_eq")
    def fails(hit: BreakpointHit) -> None:
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        machine.run()
    assert machine.registers.rip == machine.symbols["check_eq"].address
    fails.remove()
    assert machine.run().kind is StopKind.EXIT
    alone = with_symbols("cpubound-small")
    alone.run()
    assert fingerprint(machine) == fingerprint(alone)


def test_a_handler_cannot_run_the_machine(with_symbols: Boot) -> None:
    machine = with_symbols("hello")
    machine.on_breakpoint("kmain")(lambda hit: machine.step())
    with pytest.raises(RuntimeError, match="in a run already"):
        machine.run()
    other = with_symbols("cpubound-small")
    other.service = other.step
    with pytest.raises(RuntimeError, match="in a run already"):
        other.run(max_count=2_000_000)


def test_run_until_gives_each_hit_with_the_guest_standing_there(with_symbols: Boot) -> None:
    machine = with_symbols("cpubound-small")
    kinds: Counter[str] = Counter()
    for hit in machine.run_until(breakpoints=["check_eq", "kmain"], ports=[COM1]):
        assert hit.count == machine.count
        kinds[type(hit).__name__] += 1
    assert kinds["BreakpointHit"] == 9 and kinds["PortHit"] > 100
    assert machine.last_stop is not None and machine.last_stop.kind is StopKind.EXIT
    assert machine.hooks.active == []


def test_run_until_ends_at_other_stops_and_leaves_nothing(with_symbols: Boot) -> None:
    machine = with_symbols("cpubound-small")
    machine.breakpoints.add(machine.symbols["run_fib"].address)
    hits = list(machine.run_until(breakpoints=["kmain"]))
    assert [hit.rip for hit in hits] == [machine.symbols["kmain"].address]
    assert machine.last_stop is not None and machine.last_stop.kind is StopKind.BREAKPOINT
    for _ in machine.run_until(breakpoints=["check_eq"], max_count=10_000_000):
        assert machine.step().kind is StopKind.STEP
        break
    assert machine.hooks.active == []
    machine.run_until(breakpoints=["check_eq"])
    assert machine.hooks.active == [] and not machine.breakpoints.observed(machine.symbols["check_eq"].address)
    with pytest.raises(UnknownSymbol, match="there is no symbol 'nowhere'"):
        machine.run_until(breakpoints=["nowhere"])


def test_a_bad_hook_is_refused_before_anything_is_set(with_symbols: Boot) -> None:
    machine = with_symbols("hello")
    with pytest.raises(UnknownSymbol):
        machine.on_breakpoint("nowhere")
    with pytest.raises(ValueError, match="no kind of watchpoint"):
        machine.on_watch(0x1000, 8, "execute")
    with pytest.raises(ValueError, match="no range of addresses"):
        machine.on_watch(0x1000, 0)
    assert machine.hooks.active == []
