"""Code that writes to code: the new bytes run, from the very next instruction on."""

from __future__ import annotations

import lockstep_layout as layout
import pytest
from iced_x86 import Code, Instruction, Register
from lockstep import check
from lockstep_assembler import GPR64, Assembler, memory, relative_to_rip

RINGS = pytest.mark.parametrize("cpl", [0, 3])
BASES = pytest.mark.parametrize("base", [layout.LOW, layout.USER_HALF, layout.KERNEL], ids=hex)


def patch(program: Assembler, label: str, at: int, size: int, value: int) -> None:
    """mov [label + at], value"""
    code = {1: Code.MOV_RM8_IMM8, 2: Code.MOV_RM16_IMM16, 4: Code.MOV_RM32_IMM32}[size]
    program.late(lambda labels: Instruction.create_mem_u32(code, relative_to_rip(labels.get(label, program.base) + at), value))


@RINGS
@BASES
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_store_into_the_next_instruction(cpl: int, base: int, size: int) -> None:
    program = Assembler(base)
    patch(program, "next", 1, size, 0x11223344 & (1 << 8 * size) - 1)
    check(program.label("next").raw("b8 78 56 34 12 01 c3").program(cpl=cpl), [1, 2])


@RINGS
def test_a_store_into_a_later_instruction_of_the_unit_changes_its_length(cpl: int) -> None:
    program = Assembler().raw("48 ff c0")
    patch(program, "later", 0, 4, 0xC0FF4890)  # nop; inc rax (its last byte is there)
    check(program.raw("48 ff c1 48 01 c8").label("later").raw("b8 00 00 00 90 90").program(cpl=cpl), [2, 4, 5])


@RINGS
@BASES
def test_a_loop_that_changes_its_own_constant(cpl: int, base: int) -> None:
    program = Assembler(base).load(Register.RCX, 6).label("top").label("add").raw("05 01 00 00 00")
    program.late(
        lambda labels: Instruction.create_mem_reg(
            Code.MOV_RM8_R8, relative_to_rip(labels.get("add", base) + 1), Register.CL
        )
    )
    check(program.branch(Code.LOOP_REL8_64_RCX, "top").raw("90").program(cpl=cpl, gpr={"rax": 0}), [5, 10])


@RINGS
def test_a_store_behind_the_program_counter_is_seen_on_the_next_pass(cpl: int) -> None:
    program = Assembler().load(Register.RCX, 3).label("top").label("old").raw("ff c0 90")
    patch(program, "old", 0, 2, 0xC8FF)  # dec eax
    check(program.branch(Code.LOOP_REL8_64_RCX, "top").raw("90").program(cpl=cpl), [3, 5, 9])


@RINGS
@pytest.mark.parametrize("opcode", ["48 ab", "48 a5", "aa", "f3 aa", "f3 48 a5"])
def test_string_instructions_write_code(cpl: int, opcode: str) -> None:
    """Eight NOPs over four increments that follow."""
    data = layout.LOW + layout.DATA
    program = Assembler().load(Register.RAX, 0x9090_9090_9090_9090).address(Register.RDI, "there")
    program.load(Register.RSI, data).raw("48 89 06").load(Register.RCX, 1 if "48" in opcode else 8)
    program.raw(opcode).label("there").raw("ff c0 ff c1 ff c2 ff c3").raw("90")
    check(program.program(cpl=cpl), [6, 7])


@RINGS
@pytest.mark.parametrize(
    "store", ["f3 0f 7f 03", "0f 11 03", "48 0f b1 0b", "48 87 0b", "48 31 0b", "ff 33", "dd 1b", "0f 9c 03"]
)
def test_every_kind_of_store_writes_code(cpl: int, store: str) -> None:
    program = Assembler().address(Register.RBX, "there").raw("dd 06").raw(store).branch(Code.JMP_REL32_64, "there")
    check(program.label("there").raw("90" * 24).program(cpl=cpl, limit=6), [3])


@RINGS
@pytest.mark.parametrize("register", GPR64, ids=lambda register: f"r{register - Register.RAX}")
def test_stores_from_every_register(cpl: int, register: int) -> None:
    """The monitor carries plain stores out itself. The value is whatever the register holds: code or not."""
    base = Register.RBX if register != Register.RBX else Register.RDI
    program = Assembler().address(base, "there").load(register, 0x9090_90C1_FF48_9090)
    for code in (Code.MOV_RM64_R64,):
        program.op(Instruction.create_mem_reg(code, memory(base), register))
    check(program.label("there").raw("90" * 12).program(cpl=cpl, limit=14), [3])


@RINGS
def test_code_is_pushed_onto_the_page_that_runs(cpl: int) -> None:
    """The stack is in the code page: pushes and calls store over instructions."""
    program = Assembler().address(Register.RSP, "stack").load(Register.RAX, 0x9090_90C1_FF48_9090)
    program.raw("50 90").branch(Code.CALL_REL32_64, "f").raw("90").branch(Code.JMP_REL32_64, "out")
    program.label("f").raw("48 ff c0 c3").label("out").raw("90").branch(Code.JMP_REL32_64, "end")
    program.raw("90" * 32).label("stack").raw("90").label("end").raw("90")
    check(program.program(cpl=cpl), [3, 5, 8])


@RINGS
@pytest.mark.parametrize("distance", range(1, 10))
def test_a_store_into_an_instruction_that_crosses_a_page(cpl: int, distance: int) -> None:
    """It has been executed before; either half is then changed."""
    for half in (-1, 0):
        program = Assembler(layout.LOW, layout.PAGE - 64).load(Register.RCX, 2)
        program.branch(Code.JMP_REL8_64, "over").label("again").raw("c6 05")
        at = program.offset + len(program.code()[0]) + 5
        program.raw((layout.PAGE + half - at & 0xFFFF_FFFF).to_bytes(4, "little") + b"\x7b").label("over")
        program.pad_to(layout.PAGE - distance).raw("49 b8 78 56 34 12 11 22 33 44").branch(Code.LOOP_REL8_64_RCX, "again")
        check(program.raw("90").program(cpl=cpl, limit=150), [30, 60])


@RINGS
def test_an_alias_of_the_code_is_written(cpl: int) -> None:
    """The same frame is mapped at other bases too."""
    program = Assembler().load(Register.RCX, 3).label("top").label("old").raw("ff c0 90")
    at = layout.USER_HALF + 0x100 + 10
    program.load(Register.RBX, at).raw("66 c7 03 ff c8").branch(Code.LOOP_REL8_64_RCX, "top").raw("90")
    check(program.program(cpl=cpl), [4, 8])


@RINGS
def test_one_function_is_written_over_and_over(cpl: int) -> None:
    """More often than the monitor takes a page for code."""
    program = Assembler().load(Register.RCX, 40).label("top").raw("88 0d")
    program.raw((3).to_bytes(4, "little")).label("f").raw("90 b0 00 00 d8")
    program.raw("00 c3").branch(Code.LOOP_REL8_64_RCX, "top").raw("90")
    check(program.program(cpl=cpl, limit=260), [50, 99, 200])
