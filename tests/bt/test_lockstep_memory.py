"""Memory operands: every addressing form, faults in the middle of a unit, string instructions, page crossings."""

from __future__ import annotations

import lockstep_layout as layout
import pytest
from iced_x86 import Code, Instruction, Register
from lockstep import check, translated
from lockstep_assembler import GPR64, Assembler, memory, relative_to_rip
from lockstep_state import Fault, Program

BASES = pytest.mark.parametrize("base", layout.BASES, ids=hex)
RINGS = pytest.mark.parametrize("cpl", [0, 3])
BEFORE = "48 8d 40 07 48 ff c1 f9"  # lea, inc, stc
AFTER = "48 11 c9 90"  # adc rcx, rcx: it reads the carry
ARITHMETIC = ("ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP")
SIZES = (8, 16, 32, 64)
REGISTERS = {8: Register.DL, 16: Register.DX, 32: Register.EDX, 64: Register.RDX}
STRING_STORES = ("aa", "66 ab", "ab", "48 ab")
STRING_MOVES = ("a4", "66 a5", "a5", "48 a5")
STRING_LOADS = ("ac", "66 ad", "ad", "48 ad")
STRING_SCANS = ("ae", "66 af", "af", "48 af")
STRING_COMPARES = ("a6", "66 a7", "a7", "48 a7")


@BASES
def test_every_arithmetic_form_with_memory(base: int) -> None:
    program = Assembler(base)
    there = memory(Register.RBX, 0x40)
    for name in ARITHMETIC:
        for size in SIZES:
            register = REGISTERS[size]
            program.op(Instruction.create_mem_reg(getattr(Code, f"{name}_RM{size}_R{size}"), there, register))
            program.op(Instruction.create_reg_mem(getattr(Code, f"{name}_R{size}_RM{size}"), register, there))
            program.op(Instruction.create_mem_i32(getattr(Code, f"{name}_RM{size}_IMM8"), there, 0x5A))
    check(program.program(gpr={"rdx": 0x8000_7FFF_FF80_7F80}), [1, 40, 95])


@BASES
def test_every_one_operand_form_with_memory(base: int) -> None:
    program = Assembler(base)
    for name in ("NOT", "NEG", "INC", "DEC", "MUL", "IMUL"):
        for size in SIZES:
            program.op(Instruction.create_mem(getattr(Code, f"{name}_RM{size}"), memory(Register.RSI, 8)))
    for name in ("ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAR"):
        for size in SIZES:
            program.op(Instruction.create_mem_u32(getattr(Code, f"{name}_RM{size}_IMM8"), memory(Register.RSI, 8), 3))
    check(program.program(), [7, 30])


@pytest.mark.parametrize("count", [0, 1, 7, 8, 31, 32, 63, 64, 255])
@pytest.mark.parametrize("target", ["register", "memory"])
def test_shifts_by_cl(count: int, target: str) -> None:
    """A count of 0 leaves all flags alone; those of a unit before must still be there."""
    code = b""
    for prefix, opcode in ((b"", 0xD2), (b"\x66", 0xD3), (b"", 0xD3), (b"\x48", 0xD3)):
        for extension in range(8):
            modrm = 0xC0 | extension << 3 | 2 if target == "register" else extension << 3 | 6
            code += b"\xf9" + prefix + bytes((opcode, modrm)) + b"\x9c"
    for opcode in (0xA5, 0xAD):
        for prefix in (b"", b"\x48"):
            code += b"\xf8" + prefix + bytes((0x0F, opcode, 0xC2 if target == "register" else 0x06)) + b"\x9c"
    check(Program(code, gpr={"rcx": count, "rdx": 0x8123_4567_89AB_CDEF}, rflags=0x8D7), [50])


@RINGS
@BASES
def test_rip_relative_operands_of_every_kind(base: int, cpl: int) -> None:
    """Loads, stores, read-modify-writes, immediates behind the displacement, every REX, SSE, x87, prefixes."""
    heads = (
        ("48 8b 05", ""), ("4c 8b 3d", ""), ("44 89 15", ""), ("88 25", ""), ("66 89 0d", ""), ("48 01 05", ""),
        ("83 05", "7f"), ("c7 05", "78 56 34 12"), ("48 c7 05", "ff ff ff ff"), ("66 c7 05", "34 12"), ("c6 05", "55"),
        ("48 8d 05", ""), ("4c 8d 05", ""), ("66 8d 05", ""), ("8d 1d", ""), ("f0 48 0f c1 15", ""), ("48 87 05", ""),
        ("f3 0f 6f 05", ""), ("f2 0f 10 0d", ""), ("66 0f 7f 15", ""), ("d9 05", ""), ("dd 1d", ""), ("0f ba 2d", "11"),
        ("4d 0f af 35", ""), ("48 69 05", "11 22 33 44"), ("0f b6 05", ""), ("48 63 05", ""), ("ff 05", ""), ("48 ff 0d", ""),
        ("8f 05", ""), ("ff 35", ""), ("f7 05", "01 00 00 00"), ("48 f7 25", ""), ("0f 44 05", ""), ("c1 05", "03"),
        ("48 0f b1 0d", ""), ("41 8b 05", ""), ("42 8b 05", ""), ("43 01 05", ""), ("4f 31 15", ""),
        ("47 81 0d", "11 22 33 44"),
        ("64 8b 05", ""), ("65 48 89 05", ""), ("f3 43 0f 6f 05", ""), ("40 4f 8b 05", ""), ("4f 40 8b 05", ""),
    )  # fmt: skip
    program = Assembler(base).raw("6a 11")
    for number, (head, tail) in enumerate(heads):
        first, last = bytes.fromhex(head), bytes.fromhex(tail)
        at = program.offset + len(program.code()[0]) + len(first) + 4 + len(last)
        target = layout.DATA + 0x100 + 16 * number
        if first[0] in (0x64, 0x65):  # offset by the segment's base
            target -= base + layout.DATA + 0x1000
        program.raw(first + (target - at & 0xFFFF_FFFF).to_bytes(4, "little") + last)
        if first[0] in (0x64, 0x65) and base not in (layout.LOW,):
            break  # the sum of two bases is no address: it faults
    check(program.program(cpl=cpl), [4, 20])


@RINGS
@BASES
def test_eip_relative_operands(base: int, cpl: int) -> None:
    for opcode in ("67 8b 05", "67 89 05", "67 48 01 05", "67 8d 05", "67 42 8b 05"):
        first = bytes.fromhex(opcode)
        distance = layout.DATA + 0x40 - 0x100 - 3 - len(first) - 4
        program = Assembler(base).raw("48 ff c0").raw(first + distance.to_bytes(4, "little")).raw(AFTER)
        check(program.program(cpl=cpl), [2])


@pytest.mark.parametrize("base", [layout.USER_HALF, layout.DIRECT_MAP], ids=hex)
def test_a_far_rip_relative_operand_with_every_register_in_use(base: int) -> None:
    """The register that holds the address must not be one that the instruction uses."""
    for code in (Code.ADD_RM64_R64, Code.XADD_RM64_R64, Code.CMPXCHG_RM64_R64, Code.SHLD_RM64_R64_CL, Code.XCHG_RM64_R64):
        program = Assembler(base)
        for register in GPR64:
            if register == Register.RSP:
                continue
            target = relative_to_rip(base + layout.DATA + 0x80)
            make = Instruction.create_mem_reg_reg if code == Code.SHLD_RM64_R64_CL else Instruction.create_mem_reg
            arguments = (register, Register.CL) if code == Code.SHLD_RM64_R64_CL else (register,)
            program.op(make(code, target, *arguments))
        check(program.program(), [8])


@pytest.mark.parametrize("register", GPR64, ids=lambda register: f"r{register - Register.RAX}")
def test_every_register_is_base_index_source_and_destination(register: int) -> None:
    for base in (layout.LOW, layout.USER_HALF):
        program = Assembler(base)
        value = base + layout.DATA + 0x400
        program.load(register, value)
        program.op(Instruction.create_mem_reg(Code.MOV_RM64_R64, memory(register, 8), register))
        program.op(Instruction.create_reg_mem(Code.MOVZX_R32_RM8, Register.EAX, memory(register, 8)))
        program.load(register, value)
        if register != Register.RSP:
            program.load(Register.RBX if register != Register.RBX else Register.RDX, 8)
            other = Register.RBX if register != Register.RBX else Register.RDX
            program.op(Instruction.create_mem_i32(Code.ADD_RM32_IMM32, memory(other, 0x10, register, 1), 0x1234_5678))
        program.op(Instruction.create_reg_mem(Code.LEA_R64_M, register, memory(register, -8)))
        program.op(Instruction.create_reg_mem(Code.MOV_R64_RM64, register, memory(register, 0x20)))
        check(program.program(), [3, 5])


@RINGS
@pytest.mark.parametrize("where", [layout.HOLE, layout.READ_ONLY, layout.SUPERVISOR, layout.CODE_PAGES * layout.PAGE], ids=hex)
@pytest.mark.parametrize("access", [
    "8a 03", "48 8b 03", "88 03", "48 89 03", "48 01 03", "f0 48 0f c1 03", "48 0f b1 0b", "48 87 03", "ff 33", "8f 03",
    "0f 94 03", "0f 45 03", "c6 03 05", "f3 0f 6f 03", "f3 0f 7f 03", "0f ab 03", "d9 03", "d9 1b", "0f 18 03", "d1 13",
    "48 d3 1b", "0f c7 0b", "ff 03", "f6 1b", "48 11 03", "48 19 03", "0f b6 03", "c0 0b 03", "d1 d8 41 0f 9c 03", "0f ae 1b",
    "48 0f c7 0b", "0f ae 13", "0f a5 13", "0f bb 03", "66 0f 38 f6 03", "de 03", "df 3b", "db 3b", "0f c3 13",
    "66 0f 3a 16 03 01",
])  # fmt: skip
def test_a_fault_in_the_middle_of_a_unit_has_exact_state(cpl: int, where: int, access: str) -> None:
    """Registers, flags, RIP and memory are those in front of the instruction; nothing behind it has happened."""
    for base in (layout.LOW, layout.DIRECT_MAP):
        program = Assembler(base).load(Register.RBX, base + where + 0x20).load(Register.R11, base + where + 0x21)
        program.raw(BEFORE).raw("48 89 06").raw(access).raw(AFTER)
        check(program.program(cpl=cpl), [5, 6])


@RINGS
@pytest.mark.parametrize("access", ["48 8b 03", "48 89 03", "48 01 03", "f3 0f 6f 03", "f3 0f 7f 03", "48 87 03", "0f 9c 03",
                                    "ff 33", "8f 03", "48 83 13 05", "66 ff 0b"])  # fmt: skip
@pytest.mark.parametrize("boundary", [layout.DATA + layout.PAGE, layout.READ_ONLY, layout.HOLE, layout.SUPERVISOR])
def test_accesses_across_pages(cpl: int, access: str, boundary: int) -> None:
    for distance in (1, 7):
        program = Assembler().load(Register.RBX, layout.LOW + boundary - distance)
        check(program.raw(BEFORE).raw(access).raw(AFTER).program(cpl=cpl), [4])


@pytest.mark.parametrize("address", [0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFF8, 0xFF20_0000_0000_0000,
                                     0xFF40_0000_0000_0000, 0xFF60_0000_0000_0000], ids=hex)  # fmt: skip
@pytest.mark.parametrize("access", ["48 8b 03", "48 89 03", "ff 33", "8f 03", "48 8b 04 24", "48 89 45 00", "50", "58",
                                    "c3", "e8 00 00 00 00", "c9"])  # fmt: skip
@RINGS
def test_non_canonical_addresses(address: int, access: str, cpl: int) -> None:
    """#SS(0) through the stack segment, else #GP(0)."""
    program = Assembler().load(Register.RBX, address).raw(BEFORE)
    if access in ("50", "58", "c3", "e8 00 00 00 00", "48 8b 04 24"):
        program.load(Register.RSP, address)
    program.load(Register.RBP, address)
    check(program.raw(access).raw(AFTER).program(cpl=cpl), [4])


@RINGS
@pytest.mark.parametrize("count", [0, 1, 3, 0x200, 0x3000])
@pytest.mark.parametrize("opcode", STRING_STORES + STRING_MOVES + STRING_LOADS)
def test_repeated_strings_end_or_fault_exactly(cpl: int, count: int, opcode: str) -> None:
    """Big counts run into the read-only page or the hole: RCX, RSI and RDI say how far they came."""
    code = bytes.fromhex(BEFORE) + b"\xf3" + bytes.fromhex(opcode) + bytes.fromhex(AFTER)
    data = layout.LOW + layout.DATA
    check(Program(code, cpl=cpl, gpr={"rcx": count - 1, "rdi": data + 0x1FF8, "rsi": data + 5}), [3, 4])


@pytest.mark.parametrize("opcode", STRING_STORES + STRING_MOVES + STRING_LOADS + STRING_SCANS + STRING_COMPARES)
@pytest.mark.parametrize("prefix", ["", "f3", "f2", "67", "67 f3", "f3 64", "f2 65"])
@pytest.mark.parametrize("backwards", [False, True])
def test_every_string_instruction_with_every_prefix(opcode: str, prefix: str, backwards: bool) -> None:
    code = bytes.fromhex("fd" if backwards else "fc") + bytes.fromhex(prefix)
    tail = bytes.fromhex(opcode)
    code += (tail[:1] + bytes.fromhex("") if False else b"") + tail + b"\x48\x11\xc9"
    data = layout.LOW + layout.DATA
    check(Program(code, gpr={"rcx": 9, "rdi": data + 0x100, "rsi": data + 0x100, "rax": 0}), [1, 2])


def test_a_repeated_compare_faults_with_the_flags_of_its_last_iteration() -> None:
    """The mapped part is equal, and the rest is not there."""
    data = layout.LOW + layout.DATA
    code = bytes.fromhex("48 39 d8 f3 a6 90")
    end = layout.READ_ONLY - layout.DATA + layout.PAGE
    outcome = check(Program(code, gpr={"rcx": 99, "rdi": data + end - 8, "rsi": data + end - 8}))
    assert outcome.fault is not None and outcome.final.gpr[1] == 91


@pytest.mark.parametrize("distance", range(1, 12))
@RINGS
def test_instructions_that_cross_a_page(distance: int, cpl: int) -> None:
    for base in (layout.LOW, layout.USER_HALF):
        program = Assembler(base, layout.PAGE - distance)
        program.load(Register.R8, 0x1234_5678_9ABC_DEF0).raw("48 01 d8 81 04 24 44 33 22 11").branch(Code.JMP_REL32_64, "on")
        program.raw("90").label("on").raw("48 11 d8")
        check(program.program(cpl=cpl), [1, 2])


@pytest.mark.parametrize("distance", range(1, 10))
@pytest.mark.parametrize("jump", [False, True], ids=["straight", "jump"])
def test_an_instruction_that_crosses_into_nothing(distance: int, jump: bool) -> None:
    """The fetch of its second half faults, with RIP at its start and CR2 at the page that is not there.

    The reference finds the fault when it translates, and says so in front of all that leads there.
    """
    end = layout.CODE_PAGES * layout.PAGE
    program = Assembler(layout.LOW, end - 40).raw(BEFORE).branch(Code.JMP_REL8_64, "last" if jump else "next").label("next")
    program.pad_to(end - distance).label("last").raw((b"\x49\xb8" + bytes(8))[:distance])
    nops = 0 if jump else end - distance - (end - 40 + 8 + 2)
    machine = translated()
    for stepped in (False, True):
        machine.load(program.program())
        for _ in range(4 + nops if stepped else 0):
            machine.machine.step()
        machine.run_to(4 + nops + 2)
        assert machine.fault() == Fault(14, 0x10, layout.LOW + end)
        found = machine.registers()
        assert (found.rip, found.gpr[1], found.rflags) == (layout.LOW + end - distance, 6, 7)
        assert machine.retired == 4 + nops


def test_running_off_the_end_of_the_code() -> None:
    end = layout.CODE_PAGES * layout.PAGE
    machine = translated()
    machine.load(Program(bytes.fromhex("48 ff c0 48 ff c1"), offset=end - 6))
    machine.run_to(4)
    assert machine.fault() == Fault(14, 0x10, layout.LOW + end)
    assert machine.registers().rip == layout.LOW + end and machine.retired == 2


@pytest.mark.parametrize("operation", ["f7 f1", "48 f7 f1", "66 f7 f1", "f6 f1", "f7 f9", "48 f7 f9", "66 f7 f9", "f6 f9",
                                       "f7 36", "48 f7 3e", "f6 36"])  # fmt: skip
@pytest.mark.parametrize(("rax", "rdx", "rcx"), [(100, 0, 7), (100, 0, 0), (1 << 63, (1 << 64) - 1, (1 << 64) - 1), (5, 9, 3)])
def test_division_and_its_faults(operation: str, rax: int, rdx: int, rcx: int) -> None:
    code = bytes.fromhex(f"{BEFORE[:11]} f9 {operation} {AFTER}")
    check(Program(code, gpr={"rax": rax, "rdx": rdx, "rcx": rcx}), [2, 3])


@RINGS
def test_every_push_and_pop(cpl: int) -> None:
    code = b""
    for number in range(16):
        prefix = b"\x41" if number > 7 else b""
        code += prefix + bytes((0x50 | number & 7,)) + b"\x66" + prefix + bytes((0x50 | number & 7,))
    code += bytes.fromhex("6a 80 66 6a 7f 68 00 00 00 80 66 68 34 12 ff 36 66 ff 36 ff 34 24 ff 74 24 08 0f a0 0f a8 66 0f a0")
    code += bytes.fromhex("8f 06 66 8f 06 8f 04 24 8f 44 24 08 66 59 5a 41 5f c8 20 00 00 c8 10 00 03 c9 c9 54 5c 66 54 66 5c")
    check(Program(code, cpl=cpl), [10, 33, 45])


@RINGS
def test_locked_and_exchanging_instructions(cpl: int) -> None:
    code = bytes.fromhex(
        "f0 48 0f b1 0b 48 8b 03 f0 48 0f b1 0b f0 0f c1 0b 87 03 48 93 91 f0 ff 03 f0 48 83 2b 01 f0 0f ba 2b 05 f0 0f bb 13"
        "f0 0f c7 0b 48 8b 03 48 8b 53 08 f0 48 0f c7 0b 0f b0 cb 66 0f b1 cb 0f c0 d8 86 03 f0 81 0b 00 00 01 00 f0 f7 13"
    )
    check(Program(code, cpl=cpl, gpr={"rdx": 3}), [8, 15])
