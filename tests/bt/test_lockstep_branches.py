"""Control flow: every kind of branch goes where it goes on the bare engine, linked or not."""

from __future__ import annotations

import lockstep_layout as layout
import pytest
from hypothesis import given
from hypothesis import strategies as st
from iced_x86 import Code, Instruction, Register
from lockstep import DETERMINISTIC, check, translated
from lockstep_assembler import GPR64, Assembler, memory
from lockstep_random import Genes, genes

CONDITIONS = "o no b ae e ne be a s ns p np l ge le g".split()
FLAG_SETS = [2 | carry | parity | adjust | zero | sign | overflow
             for carry in (0, 1) for parity in (0, 4) for adjust in (0, 0x10) for zero in (0, 0x40) for sign in (0, 0x80)
             for overflow in (0, 0x800)]  # fmt: skip
BASES = pytest.mark.parametrize("base", layout.BASES, ids=hex)
NEAR_AND_FAR = pytest.mark.parametrize("base", [layout.LOW, layout.USER_HALF, layout.DIRECT_MAP, layout.KERNEL], ids=hex)
RINGS = pytest.mark.parametrize("cpl", [0, 3])
RELATIVE32 = [getattr(Code, f"J{name.upper()}_REL32_64") for name in CONDITIONS]
RELATIVE8 = [getattr(Code, f"J{name.upper()}_REL8_64") for name in CONDITIONS]


@pytest.mark.parametrize("rflags", FLAG_SETS[::3], ids=hex)
@pytest.mark.parametrize("codes", [RELATIVE8, RELATIVE32], ids=["rel8", "rel32"])
def test_every_condition_is_taken_or_not(rflags: int, codes: list[int]) -> None:
    program = Assembler()
    for number, code in enumerate(codes):
        after = program.fresh()
        program.branch(code, after).op(Instruction.create_reg_i32(Code.OR_RM64_IMM8, Register.R15, number))
        program.raw("9c 58 50 9d").label(after)  # pushf; pop rax; push rax; popf
    check(program.program(rflags=rflags, gpr={"r15": 0}), [3, 20])


@pytest.mark.parametrize("rflags", FLAG_SETS[1::5], ids=hex)
def test_every_setcc_and_cmovcc(rflags: int) -> None:
    code = b""
    for number in range(16):
        code += bytes((0x0F, 0x90 | number, 0xC0 | number & 3))  # setcc al, cl, dl, bl
        code += bytes((0x4C, 0x0F, 0x40 | number, 0xC8 | number & 3))  # cmovcc r9, rax ...
        code += bytes((0x0F, 0x90 | number, 0x46, number))  # setcc [rsi + number]
        code += bytes((0x0F, 0x40 | number, 0x56, number))  # cmovcc edx, [rsi + number]
    check(Assembler().raw(code).program(rflags=rflags), [5])


@pytest.mark.parametrize("count", [0, 1, 2, 5, 1 << 32, (1 << 32) + 2])
@pytest.mark.parametrize("name", ["LOOP", "LOOPE", "LOOPNE"])
@pytest.mark.parametrize("counter", ["RCX", "ECX"])
@pytest.mark.parametrize("rflags", [2, 0x42])
def test_loops(count: int, name: str, counter: str, rflags: int) -> None:
    program = Assembler().label("top").raw("48 8d 40 03").branch(getattr(Code, f"{name}_REL8_64_{counter}"), "top")
    check(program.raw("90").program(gpr={"rcx": count}, rflags=rflags, limit=30), [1, 4])


@pytest.mark.parametrize("count", [0, 1, 1 << 32])
@pytest.mark.parametrize("name", ["JRCXZ", "JECXZ"])
def test_jump_if_the_count_is_zero(count: int, name: str) -> None:
    program = Assembler().branch(getattr(Code, f"{name}_REL8_64"), "out").raw("48 ff c0").label("out").raw("90")
    check(program.program(gpr={"rcx": count}), [1])


@RINGS
@BASES
def test_calls_and_returns_nest(base: int, cpl: int) -> None:
    program = Assembler(base)
    program.load(Register.RDI, 5).branch(Code.CALL_REL32_64, "fib").branch(Code.JMP_REL32_64, "out")
    program.label("fib").raw("83 ff 02").branch(Code.JAE_REL8_64, "more").raw("89 f8 c3").label("more")
    program.raw("57 ff cf").branch(Code.CALL_REL32_64, "fib").raw("5f 50 83 ef 02").branch(Code.CALL_REL32_64, "fib")
    program.raw("5a 01 d0 c3").label("out").raw("90")
    outcome = check(program.program(cpl=cpl), [7, 50])
    assert outcome.final.gpr[0] == 5


@RINGS
@NEAR_AND_FAR
def test_returns_that_drop_arguments(base: int, cpl: int) -> None:
    program = Assembler(base).raw("6a 01 6a 02 6a 03").branch(Code.CALL_REL32_64, "f")
    program.branch(Code.CALL_REL32_64, "g").branch(Code.JMP_REL8_64, "out")
    program.label("f").raw("c2 18 00").label("g").raw("c2 00 00").label("out").raw("58")
    check(program.program(cpl=cpl), [4, 6])


def test_a_return_that_drops_up_to_32_kib() -> None:
    check(Assembler().branch(Code.CALL_REL32_64, "f").label("f").raw("c2 f8 7f 90").program(limit=2))


def test_what_a_return_drops_has_no_sign() -> None:
    """The reference takes it for a signed number, so it is not asked."""
    program = Assembler().raw("e8 00 00 00 00 c2 f8 ff").program()
    machine = translated()
    machine.load(program)
    machine.run_to(2)
    assert machine.registers().gpr[4] == program.registers()[4] + 0xFFF8


@pytest.mark.parametrize("register", GPR64, ids=lambda register: f"r{register - Register.RAX}")
@pytest.mark.parametrize("call", [False, True], ids=["jmp", "call"])
@RINGS
def test_indirect_through_every_register(register: int, call: bool, cpl: int) -> None:
    code = Code.CALL_RM64 if call else Code.JMP_RM64
    for base in (layout.LOW, layout.USER_HALF, layout.KERNEL):
        program = Assembler(base).address(register, "there").op(Instruction.create_reg(code, register))
        program.raw("90 90").label("there").raw("90 90")
        check(program.program(cpl=cpl, limit=5), [2])


@pytest.mark.parametrize("call", [False, True], ids=["jmp", "call"])
@pytest.mark.parametrize("register", GPR64, ids=lambda register: f"r{register - Register.RAX}")
def test_indirect_through_memory_with_every_base(register: int, call: bool) -> None:
    """The slot lies in the data page; RSP and RBP go through the stack. A call by RSP computes its address first."""
    code = Code.CALL_RM64 if call else Code.JMP_RM64
    for base in (layout.LOW, layout.USER_HALF):
        program = Assembler(base)
        scratch = Register.RDX if register != Register.RDX else Register.RBX
        if register != Register.RSP:
            program.load(register, base + layout.DATA + 0x80)
        program.address(scratch, "there")
        program.op(Instruction.create_mem_reg(Code.MOV_RM64_R64, memory(register, 0x18), scratch))
        program.op(Instruction.create_mem(code, memory(register, 0x18)))
        program.raw("90 90").label("there").raw("90 90")
        check(program.program(), [4])


@pytest.mark.parametrize("index", [register for register in GPR64 if register != Register.RSP],
                         ids=lambda register: f"r{register - Register.RAX}")  # fmt: skip
def test_indirect_through_a_jump_table_with_every_index(index: int) -> None:
    base = layout.USER_HALF
    table = Register.RBX if index != Register.RBX else Register.R13
    program = Assembler(base).address(Register.R8 if index != Register.R8 else Register.R9, "there")
    program.load(table, base + layout.DATA).load(index, 7) if index not in (Register.R8,) else program.load(index, 7)
    program.load(table, base + layout.DATA)
    source = Register.R8 if index != Register.R8 else Register.R9
    program.op(Instruction.create_mem_reg(Code.MOV_RM64_R64, memory(table, 0, index, 8), source))
    program.op(Instruction.create_mem(Code.JMP_RM64, memory(table, 0, index, 8)))
    program.raw("90").label("there").raw("90")
    check(program.program(), [4])


@BASES
@RINGS
@pytest.mark.parametrize("opcode", ["ff 25", "ff 15", "48 ff 25", "41 ff 15", "42 ff 25", "47 ff 15", "3e ff 25", "f2 ff 25"])
def test_indirect_through_a_rip_relative_slot(base: int, cpl: int, opcode: str) -> None:
    """The REX bits X and B say nothing here: there is neither an index nor a base."""
    program = Assembler(base).address(Register.RAX, "there").load(Register.RBX, base + layout.DATA).raw("48 89 43 20")
    head = bytes.fromhex(opcode)
    at = len(program.code()[0])
    distance = layout.DATA + 0x20 - (program.offset + at + len(head) + 4)
    program.raw(head + distance.to_bytes(4, "little")).raw("90 90").label("there").raw("90")
    outcome = check(program.program(cpl=cpl), [4])
    assert outcome.fault is None


@pytest.mark.parametrize("segment", [0x64, 0x65], ids=["fs", "gs"])
@NEAR_AND_FAR
def test_indirect_through_a_segment_with_a_base(segment: int, base: int) -> None:
    program = Assembler(base).address(Register.RAX, "there").load(Register.RBX, 0x40)
    store, jump = bytes((segment, 0x48, 0x89, 0x03)), bytes((segment, 0xFF, 0x23))
    check(program.raw(store).raw(jump).raw("90").label("there").raw("90").program(cpl=3), [3])


@BASES
def test_an_indirect_branch_whose_slot_cannot_be_read(base: int) -> None:
    for opcode in ("ff 23", "ff 13", "41 ff 24 24", "ff 25 00 50 01 00"):
        program = Assembler(base).load(Register.RBX, base + layout.HOLE).load(Register.R12, base + layout.SUPERVISOR)
        check(program.raw("90").raw(opcode).program(cpl=3), [2])


@RINGS
def test_a_call_that_cannot_push(cpl: int) -> None:
    for opcode in ("e8 00 00 00 00", "ff d3", "ff 13"):
        program = Assembler().load(Register.RSP, layout.LOW + layout.READ_ONLY + 0x800)
        outcome = check(program.raw("90").raw(opcode).program(cpl=cpl), [2])
        assert outcome.fault is not None


@RINGS
@BASES
def test_a_return_from_a_stack_that_is_not_there(base: int, cpl: int) -> None:
    for opcode in ("c3", "c2 10 00"):
        program = Assembler(base).load(Register.RSP, base + layout.HOLE + 0x100)
        assert check(program.raw("90").raw(opcode).program(cpl=cpl), [2]).fault is not None


@RINGS
@pytest.mark.parametrize("target", [layout.HOLE, layout.DATA, layout.SUPERVISOR, layout.CODE_PAGES * layout.PAGE])
@pytest.mark.parametrize("how", ["ff e0", "ff d0", "50 c3"])
def test_a_branch_to_where_no_code_may_be(cpl: int, target: int, how: str) -> None:
    """Not mapped, not executable, not for the user: the fault is the fetch's, with the branch done."""
    for base in (layout.LOW, layout.DIRECT_MAP):
        program = Assembler(base).load(Register.RAX, base + target).raw("90").raw(how)
        outcome = check(program.program(cpl=cpl), [3])
        assert outcome.fault is not None and outcome.final.rip == base + target


def test_direct_branches_to_where_no_code_may_be() -> None:
    for opcode in ("e9", "e8", "0f 84", "0f 85"):
        distance = layout.HOLE - 0x100 - len(bytes.fromhex(opcode)) - 4 - 1
        program = Assembler().raw("90").raw(bytes.fromhex(opcode) + distance.to_bytes(4, "little")).raw("90")
        check(program.program(), [2])


@BASES
def test_flags_live_on_over_unit_boundaries(base: int) -> None:
    program = Assembler(base).load(Register.RAX, (1 << 64) - 1).load(Register.RBX, 1)
    program.raw("48 01 d8")  # add rax, rbx: CF
    for opcode in ("48 11 c9", "48 83 d2 00", "48 19 d9", "4d 11 d2", "48 1d ff 00 00 00"):
        after = program.fresh()
        program.branch(Code.JMP_REL32_64, after).raw("31 c0").label(after).raw(opcode)
    program.branch(Code.JBE_REL32_64, "out").raw("90").label("out").raw("48 83 d0 05")
    check(program.program(), [3, 5, 7])


@BASES
def test_the_same_return_comes_from_many_callers(base: int) -> None:
    program = Assembler(base).load(Register.RBX, 3).label("again")
    for _ in range(4):
        program.branch(Code.CALL_REL32_64, "f").raw("48 ff c0")
    program.raw("ff cb").branch(Code.JNE_REL32_64, "again").branch(Code.JMP_REL32_64, "out")
    program.label("f").raw("48 01 c8 c3").label("out").raw("90")
    check(program.program(), [17, 30])


TERMINATORS = ("fall", "jmp", "jcc", "call", "ret", "loop", "jrcxz", "register", "slot", "pop")


@DETERMINISTIC
@given(
    blocks=st.lists(
        st.tuples(
            st.lists(genes(), max_size=4), st.sampled_from(TERMINATORS), st.integers(0, 5), st.integers(0, 15)
        ),
        min_size=2, max_size=6,
    ),
    base=st.sampled_from(layout.BASES), cpl=st.sampled_from((0, 3)), rcx=st.integers(0, 9),
    stops=st.lists(st.integers(0, 50), max_size=2),
)  # fmt: skip
def test_any_graph_of_blocks(
    blocks: list[tuple[list[Genes], str, int, int]], base: int, cpl: int, rcx: int, stops: list[int]
) -> None:
    program = Assembler(base).raw("90")
    for number, (sequence, terminator, target, choice) in enumerate(blocks):
        program.label(f"b{number}")
        for gene in sequence:
            program.raw(gene.bytes_at(base + program.offset + len(program.code()[0]), base))
        _terminate(program, terminator, f"b{target % len(blocks)}", choice)
    check(program.program(cpl=cpl, gpr={"rcx": rcx}, limit=60), stops)


def _terminate(program: Assembler, kind: str, target: str, choice: int) -> None:
    """End a block. Registers that hold code addresses are loaded afresh: the block may have changed any."""
    register = GPR64[choice] if choice != 4 else Register.RAX
    if kind == "jmp":
        program.branch(Code.JMP_REL32_64, target)
    elif kind == "jcc":
        program.branch(RELATIVE32[choice], target)
    elif kind == "call":
        program.branch(Code.CALL_REL32_64, target)
    elif kind == "ret":
        program.raw("c3")
    elif kind in ("loop", "jrcxz"):
        # Their reach is short: over a jump.
        near, after = program.fresh(), program.fresh()
        program.branch(Code.LOOP_REL8_64_RCX if kind == "loop" else Code.JRCXZ_REL8_64, near)
        program.branch(Code.JMP_REL8_64, after).label(near).branch(Code.JMP_REL32_64, target).label(after)
    elif kind == "register":
        program.address(register, target).op(Instruction.create_reg(Code.JMP_RM64, register))
    elif kind == "slot":
        program.address(register, target).op(Instruction.create_reg(Code.PUSH_R64, register))
        program.op(Instruction.create_mem(Code.CALL_RM64, memory(Register.RSP)))
    elif kind == "pop":
        program.address(register, target).op(Instruction.create_reg(Code.PUSH_R64, register)).raw("c3")
