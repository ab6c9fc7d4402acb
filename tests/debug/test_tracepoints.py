"""Tracepoints on a machine, without gdb: each arrival is seen once, and the guest sees nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.debug.gdb_description import GDB_REGISTERS
from dbgvmm.debug.gdb_target import GdbTarget
from dbgvmm.debug.stops import StopKind
from dbgvmm.debug.symbols import load_symbols
from gdbstub import BreakpointPrograms, TargetError
from gdbstub.agent import decode
from gdbstub.tracing import CollectExpression, CollectMemory, CollectRegisters, Ended, Key, Plan, Tracepoint

BootedMachine = Callable[..., Machine]
NUMBER = {row.name: number for number, row in enumerate(GDB_REGISTERS)}
EVERYTHING = CollectRegisters((1 << len(GDB_REGISTERS)) - 1)
LIMIT = 60_000_000
KERNEL = 0xFFFF_FFFF_8000_0000


@pytest.fixture
def address(guest: Callable[[str], Path]) -> Callable[[str, str], int]:
    """`address("hello", "kmain")`"""

    def find(name: str, symbol: str) -> int:
        found = load_symbols(guest(name).with_suffix(".elf64")).find(symbol)
        assert found is not None
        return found.address

    return find


def trace(machine: Machine, at: int, plan: Plan, number: int = 1, passes: int = 0) -> Key:
    key = Key(number, at)
    machine.tracing.experiment.define(Tracepoint(key, plan, passes), enabled=True)
    machine.tracing.experiment.complete(key)
    return key


def state(machine: Machine, x87_pointer: int | None) -> tuple[object, ...]:
    """Everything that a guest could have noticed: page tables with their A and D bits are in RAM.

    But for the x87's pointer to its last instruction, which is the engine's own and depends on where translations lie:
    the register, and the physical address at which the guest has saved it.
    """
    registers = tuple(row.read(machine) for row in GDB_REGISTERS if row.name != "fioff")
    memory = bytearray(machine.ram.bytes)
    if x87_pointer is not None:
        memory[x87_pointer : x87_pointer + 8] = bytes(8)
    return machine.count, machine.clock.now_ns(), registers, hashlib.sha256(memory).digest(), bytes(machine.serial_log)


@pytest.mark.parametrize(
    ("name", "symbols", "options"),
    [
        ("pagetables", ("check_eq", "map_page", "isr_common", "see_and_swap"), {}),
        ("selftest", ("check_eq", "isr_common", "syscall_entry", "swapgs_entry"), {}),
        ("selftest", ("check_eq", "isr_common", "syscall_entry"), {"user": "direct"}),
        ("smc", ("check_eq", "patch_loop_body", "next_function", "isr_common"), {}),
    ],
)
def test_a_traced_guest_runs_as_an_untraced_one(
    booted: BootedMachine, guest: Callable[[str], Path], name: str, symbols: tuple[str, ...], options: dict[str, str]
) -> None:
    plain = booted(name, **options)
    plain.run(max_count=LIMIT)
    table = load_symbols(guest(name).with_suffix(".elf64"))
    traced = booted(name, **options)
    stack = CollectMemory(NUMBER["rsp"], -256 % (1 << 64), 512)
    pointed = CollectMemory(NUMBER["rdi"], 0, 5000)
    plan = Plan(actions=(EVERYTHING, stack, pointed), steps=25, stepping_actions=(CollectRegisters(0xFFFFFF), stack))
    for number, symbol in enumerate(symbols, 1):
        found = table.find(symbol)
        assert found is not None
        trace(traced, found.address, plan, number)
    traced.tracing.experiment.buffer.circular = True
    traced.tracing.experiment.start()
    traced.run(max_count=LIMIT)
    progress = traced.tracing.experiment.tracepoints
    assert all(one.hits for one in progress)
    assert traced.tracing.experiment.buffer.created == sum(one.hits for one in progress) * 26
    area = table.find("area.0")  # of FXSAVE; FIP is at 8
    x87_pointer = None if area is None else area.address - KERNEL + 8
    assert state(traced, x87_pointer) == state(plain, x87_pointer)


def test_frames_are_what_a_stop_there_would_show(booted: BootedMachine, address: Callable[[str, str], int]) -> None:
    at = address("cpubound-small", "check_eq")
    stopped, traced = booted("cpubound-small"), booted("cpubound-small")
    stopped.breakpoints.add(at)
    trace(traced, at, Plan(actions=(EVERYTHING, CollectMemory(NUMBER["rsp"], 0, 64))))
    experiment = traced.tracing.experiment
    experiment.start()
    traced.run()
    for frame in experiment.buffer:
        stop = stopped.run()
        assert stop.kind is StopKind.BREAKPOINT
        assert frame.count == stopped.count
        values = {
            row.name: int.from_bytes(frame.register(experiment.layout, number) or b"", "little")
            for number, row in enumerate(GDB_REGISTERS)
        }
        assert values == {row.name: row.read(stopped) for row in GDB_REGISTERS}
        assert frame.read(values["rsp"], 64) == stopped.memory.peek(values["rsp"], 64)
    assert len(experiment.buffer) > 5


def test_an_arrival_at_which_the_condition_does_not_hold_costs_no_exit(
    booted: BootedMachine, address: Callable[[str, str], int]
) -> None:
    at = address("cpubound-small", "fib")
    plain, traced = booted("cpubound-small"), booted("cpubound-small")
    plain.run()
    largest = decode(bytes.fromhex("260005" "2216" "13" "27"))  # $rdi == 22: fib of no larger number is called for
    key = trace(traced, at, Plan(largest, (CollectRegisters(1 << NUMBER["rdi"]),)))
    experiment = traced.tracing.experiment
    experiment.start()
    traced.run()
    assert experiment.find(key).hits == len(experiment.buffer) > 0
    assert {frame.registers for frame in experiment.buffer} == {(22).to_bytes(8, "little")}
    assert traced.count == plain.count
    assert traced.engine.exits < plain.engine.exits + 500, "fib is called 136,516 times"


def test_a_tracepoint_and_a_conditional_breakpoint_at_one_place_each_see_their_arrivals(
    booted: BootedMachine, address: Callable[[str, str], int]
) -> None:
    at = address("cpubound-small", "fib")
    machine = booted("cpubound-small")
    twenty = decode(bytes.fromhex("260005" "2214" "13" "27"))
    nineteen = decode(bytes.fromhex("260005" "2213" "13" "27"))
    key = trace(machine, at, Plan(twenty))
    experiment = machine.tracing.experiment
    experiment.start()
    target = GdbTarget(machine)
    target.insert_breakpoint(at, 1)
    target.program_breakpoint(at, False, BreakpointPrograms((nineteen,)))
    assert machine.run().kind is StopKind.BREAKPOINT
    assert machine.cpu.gpr[7] == 19
    assert experiment.find(key).hits == 1
    target.let_go()
    experiment.clear()
    assert at not in machine.cache.all_breakpoints


def test_some_registers_are_as_all_of_them(booted: BootedMachine) -> None:
    machine = booted("hello")
    machine.run(max_count=2000)
    source = machine.tracing.source
    _, everything = source.peek_registers(EVERYTHING.mask)
    one_by_one = b"".join(source.peek_registers(1 << number)[1] for number in range(len(GDB_REGISTERS)))
    assert everything == one_by_one
    some = 1 << NUMBER["rax"] | 1 << NUMBER["xmm3"] | 1 << NUMBER["cr3"]
    parts = [source.peek_registers(1 << NUMBER[name])[1] for name in ("rax", "xmm3", "cr3")]
    assert source.peek_registers(some) == (some, b"".join(parts))


class TestArrivals:
    @pytest.fixture
    def machine(self, booted: BootedMachine, address: Callable[[str, str], int]) -> Machine:
        """In front of kmain, with a run that has a tracepoint there."""
        machine = booted("hello")
        self.kmain = address("hello", "kmain")
        self.key = trace(machine, self.kmain, Plan())
        machine.tracing.experiment.start()
        return machine

    def hits(self, machine: Machine) -> int:
        return machine.tracing.experiment.find(self.key).hits

    def test_one_at_a_breakpoint_is_seen_once(self, machine: Machine) -> None:
        machine.breakpoints.add(self.kmain)
        assert machine.run().kind is StopKind.BREAKPOINT
        assert self.hits(machine) == 1
        machine.run()
        assert self.hits(machine) == 1

    def test_one_by_a_step_is_seen_once(self, machine: Machine) -> None:
        while machine.cpu.rip != self.kmain:
            machine.step()
        assert self.hits(machine) == 0, "it has not come to executing it"
        machine.step()
        assert self.hits(machine) == 1
        machine.run()
        assert self.hits(machine) == 1

    def test_one_at_a_step_with_a_breakpoint_there_is_not_a_stop(self, machine: Machine) -> None:
        while machine.cpu.rip != self.kmain:
            machine.step()
        machine.breakpoints.add(self.kmain)
        assert machine.run().kind is StopKind.HALT
        assert self.hits(machine) == 1

    def test_one_at_an_instruction_limit_is_seen_once(self, machine: Machine, booted: BootedMachine) -> None:
        other = booted("hello")
        other.breakpoints.add(self.kmain)
        other.run()
        assert machine.run(max_count=other.count).kind is StopKind.LIMIT
        machine.run()
        assert self.hits(machine) == 1

    def test_a_tracepoint_is_no_breakpoint(self, machine: Machine) -> None:
        assert list(machine.breakpoints) == []
        assert self.kmain not in machine.breakpoints
        machine.breakpoints.add(self.kmain)
        machine.breakpoints.clear()
        machine.run()
        assert self.hits(machine) == 1

    def test_when_the_run_ends_nothing_stays_in_the_code(self, machine: Machine) -> None:
        machine.tracing.experiment.clear()
        assert self.kmain not in machine.cache.all_breakpoints
        assert machine.run().kind is StopKind.HALT


def test_two_at_one_place_both_collect_and_the_end_of_one_run_ends_both(
    booted: BootedMachine, address: Callable[[str, str], int]
) -> None:
    at = address("cpubound-small", "check_eq")
    machine = booted("cpubound-small")
    trace(machine, at, Plan(), 1, passes=3)
    trace(machine, at, Plan(steps=1), 2)
    experiment = machine.tracing.experiment
    experiment.start()
    machine.run()
    assert [frame.tracepoint for frame in experiment.buffer] == [1, 2, 2, 1, 2, 2, 1]
    assert experiment.end.reason is Ended.PASSES
    assert at not in machine.cache.all_breakpoints


def test_steps_go_on_behind_a_stop(booted: BootedMachine, address: Callable[[str, str], int]) -> None:
    kmain = address("hello", "kmain")
    machine = booted("hello")
    trace(machine, kmain, Plan(steps=6, stepping_actions=(CollectRegisters(1 << NUMBER["rip"]),)))
    experiment = machine.tracing.experiment
    experiment.start()
    machine.breakpoints.add(kmain)
    machine.run()
    start = machine.count
    machine.step(2)
    assert len(experiment.buffer) == 3
    machine.run()
    assert [frame.count - start for frame in experiment.buffer] == list(range(7))


def test_tracing_begins_in_16_bit_and_32_bit_code_too(booted: BootedMachine) -> None:
    """A kernel's first instructions run in protected mode, without paging."""
    machine = booted("hello")
    entry = machine.cpu.rip
    trace(machine, entry + 1, Plan(actions=(EVERYTHING, CollectMemory(NUMBER["rip"], 0, 16)), steps=3))
    machine.tracing.experiment.start()
    machine.run()
    frames = list(machine.tracing.experiment.buffer)
    assert [frame.count for frame in frames] == [1, 2, 3, 4]
    assert frames[0].read(entry + 1, 16) == machine.memory.peek(entry + 1, 16)


def test_conditions_of_breakpoints_see_the_variables(booted: BootedMachine, address: Callable[[str, str], int]) -> None:
    at = address("cpubound-small", "check_eq")
    machine = booted("cpubound-small")
    experiment = machine.tracing.experiment
    experiment.variables.define(2, "count", 0)
    count = decode(bytes.fromhex("2c0002" "2201" "02" "2d0002" "27"))  # $count = $count + 1
    trace(machine, at, Plan(actions=(CollectExpression(count),)))
    experiment.start()
    target = GdbTarget(machine)
    target.insert_breakpoint(at, 1)
    third = decode(bytes.fromhex("2c0002" "2203" "13" "27"))  # $count == 3
    target.program_breakpoint(at, False, BreakpointPrograms((third,)))
    assert machine.run().kind is StopKind.BREAKPOINT
    assert experiment.variables.value(2) == 3


def test_a_restarted_machine_is_still_traced(booted: BootedMachine, address: Callable[[str, str], int]) -> None:
    machine = booted("hello")
    key = trace(machine, address("hello", "kmain"), Plan())
    machine.tracing.experiment.start()
    machine.run()
    machine.restart()
    machine.run()
    assert machine.tracing.experiment.find(key).hits == 2


def test_two_runs_make_the_same_frames(booted: BootedMachine, address: Callable[[str, str], int]) -> None:
    def frames() -> bytes:
        machine = booted("cpubound-small")
        trace(machine, address("cpubound-small", "check_eq"), Plan(actions=(EVERYTHING,), steps=2), passes=5)
        experiment = machine.tracing.experiment
        experiment.start()
        machine.run()
        assert experiment.end.reason is Ended.PASSES
        return b"".join(frame.encode(experiment.layout) for frame in experiment.buffer)

    assert frames() == frames()


def test_traces_are_kept_among_the_machines_own_files_only(booted: BootedMachine, tmp_path: Path) -> None:
    target = GdbTarget(booted("hello"))
    for name in ("", "/dbgvmm/traces/", "/dbgvmm/cmdline", str(tmp_path / "trace"), "trace"):
        with pytest.raises(TargetError, match="a trace is saved as /dbgvmm/traces/NAME"):
            target.save_trace(name, b"x")
    assert list(tmp_path.iterdir()) == []
    for number in range(16):
        target.save_trace(f"/dbgvmm/traces/{number}", b"%d" % number)
    with pytest.raises(TargetError, match="16 traces are kept already"):
        target.save_trace("/dbgvmm/traces/16", b"x")
    target.save_trace("/dbgvmm/traces/3", b"again")
    assert target.read_file("/dbgvmm/traces/3") == b"again"
    assert target.read_file("/dbgvmm/traces/4") == b"4"
