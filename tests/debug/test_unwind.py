"""Backtraces without call frame information: frame pointers, interrupts' frames, and stacks that lead nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.cpu.bits import EFER, GPR
from dbgvmm.debug.symbols import SymbolTable, load_symbols
from dbgvmm.debug.unwind import Backtrace, Base, Registers, Rule, StackMemory, UnwindEnd
from dbgvmm.debug.unwind.methods import apply_rule
from dbgvmm.hardware.paging import PTE

Boot = Callable[[str], Machine]


@pytest.fixture
def named(booted: Callable[..., Machine], guest: Callable[[str], Path]) -> Boot:
    """`named("selftest")` is the machine with names, but without what else the file knows."""

    def boot(name: str) -> Machine:
        machine = booted(name)
        machine.symbols.add(SymbolTable(load_symbols(guest(name).with_suffix(".elf64"))))
        return machine

    return boot


def run_to(machine: Machine, name: str) -> None:
    symbol = machine.symbols.find(name)
    assert symbol is not None
    machine.breakpoints.add(symbol.address)
    machine.run()
    machine.breakpoints.remove(symbol.address)
    assert machine.cpu.rip == symbol.address


def names(machine: Machine, frames: Backtrace) -> list[str]:
    return [machine.symbols.describe(frame.place).partition("+")[0] for frame in frames]


def test_a_functions_first_instruction_has_its_caller(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "print")
    frames = machine.unwinder.frames()
    assert names(machine, frames) == ["print", "kernel_init", "kmain", "kernel_entry"]
    assert frames.complete


def test_the_callers_are_the_same_at_every_instruction_of_a_function(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "console_init")
    outer = [frame.pc for frame in machine.unwinder.frames()][1:]
    symbol = machine.symbols.find("console_init")
    assert symbol is not None
    stops = 0
    while symbol.address <= machine.cpu.rip < symbol.end:
        stops += 1
        assert [frame.pc for frame in machine.unwinder.frames()][1:] == outer, hex(machine.cpu.rip)
        machine.step()
    assert stops > 20
    assert machine.cpu.rip == outer[0]


def test_an_interrupt_handlers_trace_goes_on_in_the_interrupted_code(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "trap_dispatch")
    frames = machine.unwinder.frames()
    assert names(machine, frames) == [
        "trap_dispatch", "isr_common", "test_interrupts", "kmain", "kernel_entry",
    ]  # fmt: skip
    assert frames[2].how == "interrupt frame"
    assert frames[2].place == frames[2].pc, "it was interrupted in front of an instruction, not behind a call"


def test_an_entry_stub_has_the_interrupted_code_at_each_of_its_instructions(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "isr_common")
    dispatch = machine.symbols.find("trap_dispatch")
    assert dispatch is not None
    while machine.cpu.rip != dispatch.address:
        found = names(machine, machine.unwinder.frames())
        assert found[1:] == ["test_interrupts", "kmain", "kernel_entry"], hex(machine.cpu.rip)
        machine.step()


def test_user_frames_follow_the_kernels_and_are_marked(named: Boot) -> None:
    machine = named("selftest")
    enter = machine.symbols.find("enter_user")
    assert enter is not None
    run_to(machine, "enter_user")
    run_to(machine, "trap_dispatch")
    frames = machine.unwinder.frames()
    assert [frame.user for frame in frames[:3]] == [False, False, True]
    assert frames[2].pc >> 22 == 1, "ring 3 is linked at 4 MiB"
    assert frames[2].sp < 1 << 47


def test_the_quick_way_finds_what_the_thorough_one_does(named: Boot) -> None:
    machine = named("exceptions")
    for count in range(60_000, 160_000, 1_777):
        machine.run(max_count=count)
        frames = machine.unwinder.frames()
        assert machine.unwinder.quick() == tuple(frame.pc for frame in frames), hex(machine.cpu.rip)


def test_the_quick_way_knows_frames_that_are_described_by_expressions(
    booted: Callable[..., Machine], guest: Callable[[str], Path]
) -> None:
    """The guest `frames` has a function whose CFA is read from memory."""
    machine = booted("frames")
    machine.symbols.add(load_symbols(guest("frames").with_suffix(".elf64")))
    run_to(machine, "omitted_and_aligned")
    seen = set()
    for _ in range(300):
        frames = machine.unwinder.frames()
        assert machine.unwinder.quick() == tuple(frame.pc for frame in frames), hex(machine.cpu.rip)
        seen.add(len(frames))
        machine.step(7)
    assert seen >= {3, 4, 5}


def test_looking_at_the_stack_changes_nothing(named: Boot) -> None:
    looked, left = named("selftest"), named("selftest")
    for count in range(50_000, 400_000, 50_000):
        looked.run(max_count=count)
        looked.unwinder.frames()
        looked.unwinder.quick()
        left.run(max_count=count)
    assert looked.cpu.save() == left.cpu.save()
    assert looked.count == left.count
    assert looked.ram.bytes == left.ram.bytes


def test_a_limit_is_kept_and_said(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "print")
    frames = machine.unwinder.frames(2)
    assert len(frames) == 2
    assert "may be more" in frames.end
    assert not frames.complete
    assert len(machine.unwinder.quick(2)) == 2


def test_a_stack_that_ends_in_unmapped_memory_says_where(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "print")
    machine.cpu.gpr[GPR.RSP] = 0x7FFF_0000_0000
    frames = machine.unwinder.frames()
    assert len(frames) == 1
    assert "unmapped address 0x7fff00000000" in frames.end
    assert machine.unwinder.quick() == (machine.cpu.rip,)


def test_frames_that_lead_back_into_themselves_end(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "print")
    machine.step(8)
    bp = machine.cpu.gpr[GPR.RBP]
    machine.memory.poke(bp, bp.to_bytes(8, "little"))
    frames = machine.unwinder.frames()
    assert len(frames) <= 3
    assert "leads back" in frames.end or "no frame pointer" in frames.end
    assert len(machine.unwinder.quick()) <= 3


@pytest.mark.parametrize("bp", [1, 0xFFFF_FFFF_FFFF_FFF8, 0x8000_0000_0000, 0x106000])
def test_a_wild_frame_pointer_is_no_frame(named: Boot, bp: int) -> None:
    machine = named("selftest")
    run_to(machine, "print")
    machine.step(8)
    machine.cpu.gpr[GPR.RBP] = bp
    frames = machine.unwinder.frames()
    assert len(frames) == 1
    assert f"rbp = {bp:#x} is no frame pointer" in frames.end
    assert machine.unwinder.quick() == (machine.cpu.rip,)


def test_outside_64_bit_code_there_is_one_frame_and_the_reason(booted: Callable[..., Machine]) -> None:
    machine = booted("hello")
    frames = machine.unwinder.frames()
    assert len(frames) == 1
    assert "64-bit code" in frames.end


class Fixed:
    """A method that knows one place."""

    name = "fixed"

    def __init__(self, pc: int, rule: Rule) -> None:
        self.pc = pc
        self.known = rule

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        return self.known if frame.pc == self.pc else None

    def caller(self, frame: Registers, stack: StackMemory) -> Registers | None:
        return apply_rule(self.known, frame, stack) if frame.pc == self.pc else None


def test_a_method_that_is_added_is_asked_in_front_of_the_frame_pointer(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "print")
    assert len(machine.unwinder.quick()) == 4
    machine.unwinder.add(Fixed(machine.cpu.rip, Rule(Base.OUTERMOST)))
    frames = machine.unwinder.frames()
    assert len(frames) == 1
    assert frames.complete
    assert machine.unwinder.quick() == (machine.cpu.rip,)
    with pytest.raises(ValueError, match="no method 'orc'"):
        machine.unwinder.add(Fixed(0, Rule(Base.SP, 8)), before="orc")


def test_a_rule_without_a_frame_pointer_cannot_count_from_it(named: Boot) -> None:
    machine = named("selftest")
    run_to(machine, "print")
    stack = StackMemory(machine.memory, machine.ram.u64)
    with pytest.raises(UnwindEnd, match="not known"):
        apply_rule(Rule(Base.BP, 16, -16), Registers(1, {7: machine.cpu.gpr[GPR.RSP]}, False, False), stack)


@pytest.mark.parametrize(("level", "executable"), [(0, True), (1, False), (2, False)])
def test_user_code_that_only_the_kernels_top_level_table_forbids_is_code(named: Boot, level: int, executable: bool) -> None:
    """Under page table isolation Linux marks the user's half of the kernel's own tables no-execute."""
    machine = named("hello")
    machine.breakpoints.add(0x106000)
    machine.run()
    machine.cpu.efer |= EFER.NXE
    machine.mmu.mode_changed()
    entry = machine.memory.translate(0x106000).levels[level]
    machine.ram.u64[entry.entry_gpa >> 3] = entry.entry | PTE.NX
    stack = StackMemory(machine.memory, machine.ram.u64)
    assert not machine.memory.translate(0x106000).executable
    assert stack.executable(0x106000) == executable
