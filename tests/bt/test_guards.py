"""Guarded accesses: next to a watched word, the guest goes on without exits, notices nothing, and no hit is missed."""

from __future__ import annotations

from functools import cache

import lockstep_layout as layout
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from lockstep import DETERMINISTIC, Translated
from lockstep_assembler import Assembler
from lockstep_random import Genes, assemble, genes, leaves_flags_undefined
from lockstep_state import Program, compared

from dbgvmm import Machine
from dbgvmm.bt import watching
from dbgvmm.bt.watching import Watch
from dbgvmm.debug.stops import StopKind
from dbgvmm.hardware.paging import PTE

DATA = layout.LOW + layout.DATA
STACK = layout.LOW + layout.STACK + layout.PAGE
ROUNDS = 200
FEW = 60
"""Exits that a loop of ROUNDS may cost in all: the first ones, those that translate, and slices."""


@cache
def world() -> Translated:
    return Translated()


def loop(body: str, cpl: int = 0, **gpr: int) -> Program:
    """`body` ROUNDS times; R15 counts down."""
    code = Assembler().label("again").raw(body).raw("49 ff cf").raw("0f 85").code()[0]
    back = -(len(code) + 4) & 0xFFFF_FFFF
    return Program(code + back.to_bytes(4, "little") + b"\x90", cpl=cpl, gpr={"r15": ROUNDS, "rcx": 3, **gpr})


def run(program: Program, *watches: Watch, warm: bool = False) -> tuple[list[int], int]:
    """Addresses that were hit on the way to the program's end (or fault), and exits."""
    world().load(program, warm=warm)
    machine = world().machine
    machine.watchpoints.clear()
    for watch in watches:
        machine.watchpoints.add(watch)
    machine.breakpoints.add(program.end)
    hits, exits = [], machine.engine.exits
    while (stop := machine.run(max_count=machine.count + 1_000_000)).kind is StopKind.WATCHPOINT:
        assert stop.address is not None
        hits.append(stop.address)
        if machine.cpu.rip == program.end:
            break  # to go on would be to go on behind the breakpoint
    assert machine.cpu.rip == program.end or world().faulted, stop
    exits = machine.engine.exits - exits
    machine.watchpoints.clear()
    machine.breakpoints.clear()
    return hits, exits


def state(machine: Machine) -> tuple[list[int], int, bytes]:
    return list(machine.cpu.gpr), machine.cpu.rflags, compared(machine.ram.bytes)


def differences(expected: tuple[list[int], int, bytes]) -> list[str]:
    """What is not as expected now."""
    gpr, rflags, memory = state(world().machine)
    found = [f"gpr {n}: {a:#x}, not {b:#x}" for n, (a, b) in enumerate(zip(gpr, expected[0], strict=True)) if a != b]
    found += [f"flags {rflags:#x}, not {expected[1]:#x}"] * (rflags != expected[1])
    changed = (n for n, (a, b) in enumerate(zip(memory, expected[2], strict=True)) if a != b)
    found += [f"at {layout.CODE_FRAME + n:#x}: {memory[n]:#x}, not {expected[2][n]:#x}" for n in changed]
    return found[:20]


ACCESSES = [
    pytest.param("48 89 47 10", id="mov [rdi+10h], rax"),
    pytest.param("88 67 10", id="mov [rdi+10h], ah"),
    pytest.param("c6 47 10 7f", id="mov byte [rdi+10h], 7fh"),
    pytest.param("f0 48 ff 47 18", id="lock inc qword [rdi+18h]"),
    pytest.param("48 11 44 cf 10", id="adc [rdi+rcx*8+10h], rax"),
    pytest.param("0f 11 47 20", id="movups [rdi+20h], xmm0"),
    pytest.param("48 87 5f 10", id="xchg [rdi+10h], rbx"),
    pytest.param("67 89 47 10", id="mov [edi+10h], eax"),
    pytest.param("48 0f b1 4f 10", id="cmpxchg [rdi+10h], rcx"),
    pytest.param("c1 57 10 03", id="rcl dword [rdi+10h], 3"),
    pytest.param("0f a4 5f 10 05", id="shld [rdi+10h], ebx, 5"),
    pytest.param("48 89 3f", id="mov [rdi], rdi"),
    pytest.param("64 48 89 04 25 10 00 00 00", id="mov fs:[10h], rax"),
    pytest.param("65 48 89 81 30 ef ff ff", id="mov gs:[rcx-10d0h], rax"),
    pytest.param("57 5e", id="push; pop"),
    pytest.param("54 5e", id="push rsp; pop"),
    pytest.param("6a f0 5e", id="push -16; pop"),
    pytest.param("68 00 00 00 80 5e", id="push 80000000h; pop"),
    pytest.param("e8 00 00 00 00 5e", id="call; pop"),
]


@pytest.mark.parametrize("cpl", [0, 3])
@pytest.mark.parametrize("body", ACCESSES)
def test_the_guest_works_beside_what_is_watched_without_exits(body: str, cpl: int) -> None:
    program = loop(body, cpl, rdi=DATA + 0x1100)
    run(program)
    expected = state(world().machine)
    beside = (Watch(DATA + 0x1F00, 8), Watch(DATA + 0x1080, 8), Watch(STACK - 0x400, 4), Watch(STACK + 0x80, 4))
    beside += (Watch(DATA + 0x1008, 8),)
    hits, exits = run(program, *beside)
    assert hits == []
    assert not differences(expected)
    assert exits < FEW


@pytest.mark.parametrize("offset", [0x10 - 8, 0x10 + 8, -0x100, 0xE00])
def test_the_words_on_both_sides_are_told_apart(offset: int) -> None:
    program = loop("48 89 47 10", rdi=DATA + 0x1100)
    assert run(program, Watch(DATA + 0x1100 + offset, 8))[0] == []


@pytest.mark.parametrize("offset", [0x10 - 7, 0x10, 0x13, 0x10 + 7])
def test_every_access_to_what_is_watched_stops(offset: int) -> None:
    program = loop("48 89 47 10", rdi=DATA + 0x1100)
    assert len(run(program, Watch(DATA + 0x1100 + offset, 8))[0]) == ROUNDS


def test_an_access_that_wanders_over_the_page_stops_where_it_should() -> None:
    """mov [rdi], al; inc rdi: from one page into the next, over two watched bytes."""
    program = loop("88 07 48 ff c7", rdi=DATA + 0x1F80)
    hits, _ = run(program, Watch(DATA + 0x1FF0, 1), Watch(DATA + 0x2010, 1))
    assert hits == [DATA + 0x1FF0, DATA + 0x2010]


def test_an_access_over_the_end_of_the_page_stops() -> None:
    """mov [rdi], rax; inc rdi."""
    program = loop("48 89 07 48 ff c7", rdi=DATA + 0x1F80)
    hits, _ = run(program, Watch(DATA + 0x1FFE, 4))
    assert hits == [max(at, DATA + 0x1FFE) for at in range(DATA + 0x1FF7, DATA + 0x2002)]


def test_reads_are_guarded_too() -> None:
    program = loop("48 8b 47 10 48 03 5f 20", rdi=DATA + 0x1100)
    run(program)
    expected = state(world().machine)
    hits, exits = run(program, Watch(DATA + 0x1F00, 8, reads=True))
    assert hits == [] and not differences(expected)
    assert exits < FEW
    assert len(run(program, Watch(DATA + 0x1114, 1, reads=True, writes=False))[0]) == ROUNDS


def test_physical_watches_hold_for_every_mapping() -> None:
    program = loop("48 89 47 10", rdi=layout.SYSTEM + layout.DATA_FRAME + 0x1100)
    frame = layout.DATA_FRAME + 0x1000
    assert run(program, Watch(frame + 0x800, 8, physical=True))[1] < FEW
    assert len(run(program, Watch(frame + 0x110, 1, physical=True))[0]) == ROUNDS


@pytest.mark.parametrize("watches", [1, 2])
def test_flags_survive_a_guard(watches: int) -> None:
    """stc, a store, adc: the carry must arrive. An addition that overflows, a store, jno."""
    program = loop("f9 48 89 47 10 48 83 d3 00 b0 7f 04 01 48 89 47 18 71 03 49 ff c0", rdi=DATA + 0x1100, rbx=0, r8=0)
    run(program, *(Watch(DATA + 0x1F00 - 0x1E80 * n, 8) for n in range(watches)))
    assert world().machine.cpu.gpr[3] == world().machine.cpu.gpr[8] == ROUNDS


def test_a_store_to_a_page_that_became_read_only_faults() -> None:
    """Half way, the loop takes W from the page's entry; invlpg."""
    machine = world().machine
    program = loop("48 89 47 10 49 83 ff 64 75 07 4c 89 26 0f 01 3f 90", rdi=DATA + 0x1100)
    world().load(program)
    leaf = machine.memory.translate(DATA + 0x1000).levels[-1]
    moves = {"rsi": layout.SYSTEM + leaf.entry_gpa, "r12": leaf.entry & ~PTE.W, "rdi": DATA + 0x1100, "r15": ROUNDS}
    hits, _ = run(Program(program.code, gpr=moves), Watch(DATA + 0x1F00, 8))
    assert hits == [] and world().faulted
    assert machine.cpu.cr2 == DATA + 0x1110
    assert machine.cpu.gpr[15] == 99


def test_the_dirty_bit_that_the_guest_clears_is_set_again() -> None:
    """Each round clears D in the page's entry, invalidates, and stores."""
    machine = world().machine
    program = loop("4c 89 26 0f 01 3f 48 89 47 10 48 8b 1e", rdi=DATA + 0x1100)
    world().load(program)
    leaf = machine.memory.translate(DATA + 0x1000).levels[-1]
    moves = {"rsi": layout.SYSTEM + leaf.entry_gpa, "r12": leaf.entry & ~PTE.D, "rdi": DATA + 0x1100, "r15": ROUNDS}
    run(Program(program.code, gpr=moves), Watch(DATA + 0x1F00, 8))
    assert machine.cpu.gpr[3] & PTE.D


def test_a_page_that_is_mapped_elsewhere_is_not_written_through_the_alias() -> None:
    """After a while the page's entry names the next frame: the stores go there."""
    machine = world().machine
    program = loop("48 89 47 10 49 83 ff 64 75 07 4c 89 26 0f 01 3f 90", rdi=DATA + 0x1100)
    world().load(program)
    leaf = machine.memory.translate(DATA + 0x1000).levels[-1]
    moves = {"rsi": layout.SYSTEM + leaf.entry_gpa, "r12": leaf.entry + layout.PAGE, "rdi": DATA + 0x1100, "r15": ROUNDS}
    run(Program(program.code, gpr={**moves, "rax": 0x55}), Watch(DATA + 0x1F00, 8))
    assert machine.ram.u64[layout.DATA_FRAME + 0x2110 >> 3] == 0x55


def test_guards_go_with_their_watchpoints() -> None:
    program = loop("48 89 47 10", rdi=DATA + 0x1100)
    run(program, Watch(DATA + 0x1F00, 8))
    machine = world().machine
    assert any(page.guards for page in machine.cache.code_pages.values())
    assert run(program, Watch(DATA + 0x1112, 1), warm=True)[0] == [DATA + 0x1112] * ROUNDS
    run(program, warm=True)
    assert not any(page.guards for page in machine.cache.code_pages.values())


def test_the_same_watchpoint_set_again_keeps_the_guards() -> None:
    program = loop("48 89 47 10", rdi=DATA + 0x1100)
    beside = Watch(DATA + 0x1F00, 8)
    run(program, beside)
    made = world().machine.dispatcher.watching.guards
    run(program, beside, warm=True)
    assert world().machine.dispatcher.watching.guards == made


@settings(DETERMINISTIC, max_examples=600, phases=(Phase.explicit, Phase.generate))
@given(
    sequence=st.lists(genes(), min_size=1, max_size=12),
    base=st.sampled_from(layout.BASES),
    cpl=st.sampled_from((0, 3)),
    at=st.integers(0, layout.PAGE - 8),
    reads=st.booleans(),
)
def test_random_code_with_guards_does_what_it_does_without(
    sequence: list[Genes], base: int, cpl: int, at: int, reads: bool
) -> None:
    program = Program(b"\x90" + assemble(sequence, base, 0x101), base=base, cpl=cpl)
    assume(not leaves_flags_undefined(program.code, program.start))
    run(program)
    expected = state(world().machine)
    frames = range(layout.DATA_FRAME, layout.DATA_FRAME + layout.END - layout.DATA, layout.PAGE)
    watches = [Watch(frame + at, 8, physical=True, reads=reads) for frame in frames]
    before, watching.GUARDED_AFTER = watching.GUARDED_AFTER, 1
    try:
        first, _ = run(program, *watches)
        assert not differences(expected)
        for _ in range(2):
            again, _ = run(program, *watches, warm=True)
            assert again == first
            assert not differences(expected)
    finally:
        watching.GUARDED_AFTER = before
