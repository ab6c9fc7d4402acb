"""Units in the cache: what their bytes are, where they end, how they are linked, found, and thrown away."""

from __future__ import annotations

from itertools import pairwise

import lockstep_layout as layout
import pytest
from iced_x86 import Code, Decoder, Instruction, Register
from lockstep import Translated, check
from lockstep_assembler import Assembler
from lockstep_state import Program

from dbgvmm.bt.forming import MAX_UNIT
from dbgvmm.bt.units import TranslationUnit
from dbgvmm.debug.stops import StopKind
from dbgvmm.hardware.layout import TC_OFFSET, TC_VA

FAR = 1_000_000
"""So many instructions ahead of the limit that nothing but the first runs in a precise unit."""


@pytest.fixture
def translated() -> Translated:
    """A machine of its own, so that counters start at 0."""
    return Translated()


def run(translated: Translated, code: str | Assembler, *, warm: bool = False) -> Program:
    """Run a program in normal units (but for its first instruction, a NOP in most) up to a breakpoint at its end."""
    program = code.program() if isinstance(code, Assembler) else Assembler().raw("90").raw(code).program()
    translated.load(program, warm=warm)
    breakpoints = translated.machine.breakpoints
    breakpoints.add(program.end)
    assert translated.machine.run(max_count=translated.machine.count + FAR).kind is StopKind.BREAKPOINT
    breakpoints.remove(program.end)
    return program


def second(program: Program) -> int:
    """The address behind the NOP that programs begin with."""
    return program.start + 1


def units(translated: Translated) -> dict[int, TranslationUnit]:
    """Live units by guest address."""
    return {unit.guest_rip: unit for unit in translated.machine.cache.units()}


def tc_bytes(translated: Translated, unit: TranslationUnit) -> bytes:
    """A unit's translation."""
    at = TC_OFFSET + unit.tc_start - TC_VA
    return bytes(translated.machine.engine.frames.block.bytes[at : at + unit.tc_end - unit.tc_start])


# -- translation


def test_plain_instructions_are_copied_byte_for_byte(translated: Translated) -> None:
    code = "48 8b 06 48 89 43 08 0f b6 c8 4c 8d 04 0b f3 0f 6f 06 66 0f ef c1 48 83 d1 05 0f 9f c2 f3 a4"
    code += " 48 8b 04 25 00 10 41 00"
    program = run(translated, code)
    unit = units(translated)[second(program)]
    assert unit.guest_bytes == program.code[1:]
    assert program.code[1:] in tc_bytes(translated, unit)


def test_a_near_rip_relative_operand_becomes_an_absolute_one_of_the_same_length_plus_one(translated: Translated) -> None:
    program = run(translated, "48 8b 05 f8 0e 01 00")
    assert bytes.fromhex("48 8b 04 25 00 10 41 00") in tc_bytes(translated, units(translated)[second(program)])


def test_a_far_rip_relative_operand_goes_through_a_register_that_is_put_back(translated: Translated) -> None:
    program = run(translated, Assembler(layout.USER_HALF).raw("90 48 8b 05 f8 0e 01 00"))
    code = tc_bytes(translated, units(translated)[second(program)])
    assert (layout.USER_HALF + 0x1_1000).to_bytes(8, "little") in code
    assert translated.registers().gpr[1:] == program.registers()[1:]


def test_a_call_pushes_the_guests_return_address_in_one_store_that_covers_it(translated: Translated) -> None:
    for base in (layout.LOW, layout.USER_HALF):
        program = run(translated, Assembler(base).branch(Code.CALL_REL32_64, "f").label("f"))
        stack = translated.registers().gpr[4]
        assert translated.machine.memory.read_u64(stack, False) == program.end


def test_no_unit_crosses_its_tc_page_or_overlaps_another(translated: Translated) -> None:
    program = Assembler()
    for number in range(120):
        program.raw("48 8b 06 48 89 03 48 83 c0 01").branch(Code.JMP_REL32_64, f"l{number}").label(f"l{number}")
    run(translated, program)
    ranges = sorted((unit.tc_start, unit.tc_end) for unit in units(translated).values())
    assert len(ranges) > 100
    assert all(start >> 12 == end - 1 >> 12 for start, end in ranges)
    assert all(first[1] <= second[0] for first, second in pairwise(ranges))


# -- where units end


@pytest.mark.parametrize("ending", ["eb 00", "ff d0", "0f a2", "c3", "e8 00 00 00 00"])
def test_a_unit_ends_behind_what_leaves_it(translated: Translated, ending: str) -> None:
    program = Assembler().address(Register.RAX, "next").raw("50 90").raw(ending).label("next").raw("90 90")
    done = run(translated, program)
    unit = units(translated)[done.start + 10]
    assert unit.guest_rip + len(unit.guest_bytes) == done.end - 2


def test_a_unit_has_a_greatest_length(translated: Translated) -> None:
    program = run(translated, "48 ff c0 " * (MAX_UNIT + 3))
    assert units(translated)[second(program)].length == MAX_UNIT
    assert units(translated)[second(program) + 3 * MAX_UNIT].length == 3


def test_a_unit_ends_with_its_page_and_an_instruction_that_crosses_has_its_own(translated: Translated) -> None:
    program = Assembler(offset=layout.PAGE - 9).raw("90 48 ff c0 90 90 90 48 81 c0 11 22 33 44 90")
    done = run(translated, program)
    found = units(translated)
    assert found[second(done)].length == 4
    crossing = found[second(done) + 6]
    assert (crossing.length, len(crossing.guest_bytes)) == (1, 7)
    assert len(crossing.page.pages) == 2
    assert found[second(done) + 13].page.va == done.base + layout.PAGE


def test_every_mark_is_an_instruction_boundary_and_they_are_in_order(translated: Translated) -> None:
    code = "48 8b 05 f9 0e 01 00 48 ff c0 9c 59 48 11 c8 50 9d ff 35 00 00 00 00 58 e3 00"
    program = run(translated, Assembler(layout.USER_HALF).raw("90").raw(code))
    unit = units(translated)[second(program)]
    instructions = list(Decoder(64, unit.guest_bytes, ip=0))
    boundaries = {instruction.ip for instruction in instructions} | {len(unit.guest_bytes)}
    assert {mark.guest_offset for mark in unit.marks} <= boundaries
    offsets = [mark.tc_offset for mark in unit.marks]
    assert offsets == sorted(offsets)
    for mark in unit.marks:
        ahead = [instruction.ip for instruction in instructions if instruction.ip < mark.guest_offset]
        assert mark.retired == len(ahead)


def test_a_mark_holds_up_to_the_next_one(translated: Translated) -> None:
    program = run(translated, "48 8b 06 48 89 03 48 8b 43 08")
    unit = units(translated)[second(program)]
    for mark, following in pairwise(unit.marks):
        if following.tc_offset > mark.tc_offset:
            assert unit.mark_at(unit.tc_start + following.tc_offset - 1).guest_offset == mark.guest_offset


def test_each_copied_instruction_has_a_mark_of_its_own(translated: Translated) -> None:
    program = run(translated, "48 8b 06 66 90 0f b6 c8 90 48 89 03")
    unit = units(translated)[second(program)]
    copied = [mark for mark in unit.marks if mark.retired < unit.length and not mark.fix and mark.guest_offset]
    assert [mark.guest_offset for mark in copied] == [3, 5, 8, 9]
    for mark, length in zip(copied, (2, 3, 1, 3), strict=True):
        at = unit.tc_start + mark.tc_offset
        assert tc_bytes(translated, unit)[mark.tc_offset :].startswith(unit.guest_bytes[mark.guest_offset :][:length])
        assert all(unit.mark_at(at + byte) == mark for byte in range(length))


def test_the_mark_behind_an_instruction_is_that_of_the_next_one(translated: Translated) -> None:
    program = run(translated, "48 89 03 48 89 43 08 48 89 43 10")
    unit = units(translated)[second(program)]
    first, following = (next(mark for mark in unit.marks if mark.guest_offset == offset) for offset in (3, 7))
    assert unit.mark_behind(unit.tc_start + first.tc_offset) == following
    assert unit.mark_behind(unit.tc_start + first.tc_offset + 2) == following
    assert unit.mark_behind(unit.tc_start + following.tc_offset).guest_offset == 11


# -- chains


def two_blocks(passes: int = 50) -> Assembler:
    return Assembler().load(Register.RCX, passes).label("top").raw("48 ff c0").branch(Code.JMP_REL32_64, "on").raw("cc" * 8) \
        .label("on").raw("48 ff c9").branch(Code.JNE_REL32_64, "top")  # fmt: skip


def test_a_direct_branch_is_linked_the_first_time_and_leaves_no_more(translated: Translated) -> None:
    run(translated, two_blocks())
    machine = translated.machine
    linked = [edge for unit in units(translated).values() for edge in unit.edges if edge.target is not None]
    assert linked and all(edge in edge.target.incoming for edge in linked if edge.target is not None)
    exits = machine.stats()["chain_exits"]
    assert exits < 20
    run(translated, two_blocks(5000), warm=True)
    again = machine.stats()["chain_exits"] - exits
    assert again < 20  # 20,000 instructions; MARGIN of them in precise units, which are not linked


def test_chains_are_counted(translated: Translated) -> None:
    before = translated.machine.stats()["chains"]
    run(translated, two_blocks())
    assert translated.machine.stats()["chains"] > before


def test_a_write_to_code_kills_its_units_and_unlinks_what_led_there(translated: Translated) -> None:
    program = run(translated, two_blocks())
    machine = translated.machine
    on = next(unit for rip, unit in units(translated).items() if any(edge.unit.guest_rip != rip for edge in unit.incoming))
    incoming = [edge for edge in on.incoming if edge.unit is not on]
    translated.load(program, warm=True)
    machine.memory.write(on.guest_rip, b"\x90", False)
    assert not on.live and on.why_dead
    assert all(edge.target is None for edge in incoming)
    assert on.guest_rip not in units(translated)


def test_a_write_beside_code_kills_nothing(translated: Translated) -> None:
    program = run(translated, two_blocks())
    before = units(translated)
    translated.machine.memory.write(program.end + 64, b"\x90", False)
    assert units(translated) == before


# -- lookups


def test_an_indirect_branch_leaves_once_and_is_looked_up_from_then_on(translated: Translated) -> None:
    program = Assembler().load(Register.RCX, 200).address(Register.RAX, "top").raw("90").label("top")
    program.raw("48 ff c9").branch(Code.JE_REL32_64, "out").op(Instruction.create_reg(Code.JMP_RM64, Register.RAX)).label("out")
    run(translated, program)
    machine = translated.machine
    assert 1 <= machine.stats()["lookup_fills"] <= 2
    assert machine.stats()["exits"] < 60


def test_returns_are_looked_up_too(translated: Translated) -> None:
    program = Assembler().load(Register.RCX, 100).label("top").branch(Code.CALL_REL32_64, "f").raw("48 ff c9")
    program.branch(Code.JNE_REL32_64, "top").branch(Code.JMP_REL32_64, "out").label("f").raw("c3").label("out")
    run(translated, program)
    assert translated.machine.stats()["lookup_fills"] <= 3
    assert translated.machine.stats()["exits"] < 60


def test_a_dead_unit_is_not_found_by_lookup(translated: Translated) -> None:
    """The function's code changes between two returns from the same place."""
    program = Assembler().load(Register.RAX, 0).load(Register.RBX, 0).label("top").address(Register.RDX, "f")
    program.op(Instruction.create_reg(Code.CALL_RM64, Register.RDX)).raw("66 c7 42 01 ff c3")  # inc eax -> inc ebx
    program.raw("48 ff cb 48 ff c3 83 fb 02").branch(Code.JB_REL32_64, "top").branch(Code.JMP_REL32_64, "out")
    program.label("f").raw("90 ff c0 c3").label("out")
    check(program.program(limit=60))


# -- the cache


def test_a_full_cache_is_flushed_and_the_program_goes_on() -> None:
    program = Assembler()
    for number in range(600):
        program.raw("48 ff c0").branch(Code.JMP_REL8_64, f"l{number}").label(f"l{number}")
    small = Translated(tc_pages=20)
    first = program.program(limit=2000, gpr={"rax": 0})
    small.load(first)
    small.run_to(1200)
    assert small.registers().gpr[0] == 600
    assert small.registers().rip == first.end
    assert small.machine.stats()["tc_flushes"] > 0


def test_a_flush_forgets_every_unit_and_entry(translated: Translated) -> None:
    run(translated, two_blocks())
    translated.machine.cache.flush()
    assert not units(translated)
    cache = translated.machine.cache
    assert not cache.kernel_entries and not cache.user_entries and not cache.code_pages


# -- breakpoints


def test_a_breakpoint_splits_the_unit_and_leaves_memory_alone(translated: Translated) -> None:
    program = run(translated, "48 ff c0 48 ff c1 48 ff c2")
    machine = translated.machine
    whole = units(translated)[second(program)]
    assert whole.length == 3
    image = bytes(machine.ram.bytes)
    machine.breakpoints.add(second(program) + 3)
    assert not whole.live
    translated.load(program, warm=True)
    stop = machine.run(max_count=machine.count + FAR)
    assert (stop.kind, stop.address) == (StopKind.BREAKPOINT, second(program) + 3)
    assert units(translated)[second(program)].length == 1
    found, expected = bytes(machine.ram.bytes), image
    page = slice(layout.CODE_FRAME, layout.CODE_FRAME + layout.PAGE)
    assert found[page] == expected[page]


def test_a_removed_breakpoint_gives_the_whole_unit_back(translated: Translated) -> None:
    program = run(translated, "48 ff c0 48 ff c1 48 ff c2")
    machine = translated.machine
    machine.breakpoints.add(second(program) + 3)
    machine.breakpoints.remove(second(program) + 3)
    run(translated, "48 ff c0 48 ff c1 48 ff c2")
    assert units(translated)[second(program)].length == 3


@pytest.mark.parametrize("instruction", ["06", "0f 0b", "f4", "0f a2", "c3", "ff e0", "eb 00", "74 00", "f3 a4", "9d"])
def test_a_breakpoint_stops_in_front_of_any_instruction(translated: Translated, instruction: str) -> None:
    """What faults or leaves the unit is no exception."""
    program = Assembler().raw("90 48 ff c0").raw(instruction).raw("90").program()
    machine = translated.machine
    translated.load(program)
    machine.breakpoints.add(program.start + 4)
    stop = machine.run(max_count=machine.count + FAR)
    assert (stop.kind, stop.address) == (StopKind.BREAKPOINT, program.start + 4)
    assert translated.retired == 2


def test_a_breakpoint_is_left_by_running_on(translated: Translated) -> None:
    program = Assembler().raw("48 ff c0").label("here").raw("48 ff c1").branch(Code.JMP_REL8_64, "here").program(limit=9)
    machine = translated.machine
    translated.load(program)
    machine.breakpoints.add(program.start + 3)
    for hit in range(1, 5):
        stop = machine.run(max_count=machine.count + FAR)
        assert stop.kind is StopKind.BREAKPOINT
        assert translated.retired == 2 * hit - 1
