"""Flags: pushf and popf at both levels, lahf and sahf, and the flags that only single instructions touch."""

from __future__ import annotations

import struct

import lockstep_layout as layout
import pytest
from iced_x86 import Code, Register
from lockstep import check
from lockstep_assembler import Assembler

RINGS = pytest.mark.parametrize("cpl", [0, 3])
BASES = pytest.mark.parametrize("base", [layout.LOW, layout.DIRECT_MAP], ids=hex)
CF, PF, AF, ZF, SF, IF, DF, OF, IOPL, NT, AC, ID = 1, 4, 0x10, 0x40, 0x80, 0x200, 0x400, 0x800, 0x3000, 0x4000, 1 << 18, 1 << 21
LOADED = (0, CF | ZF | OF, PF | AF | SF, DF, IF, IOPL, 0x1000, NT, AC, ID, IF | IOPL | ID | 0x8D5, 0x8 | 0x20 | 0x8000, 2)


@RINGS
@pytest.mark.parametrize("loaded", LOADED, ids=hex)
@pytest.mark.parametrize("size", [2, 8])
def test_popf_then_pushf(cpl: int, loaded: int, size: int) -> None:
    """What popf may change depends on CPL and IOPL; what pushf shows must be the guest's own IF and IOPL."""
    program = Assembler().load(Register.RAX, loaded).raw("50")
    program.raw("66 9d 9c 66 9c 58" if size == 2 else "9d 9c 66 9c 58")
    program.raw("11 c0 66 9c 9d 9c 90" if size == 2 else "11 c0 9c 9d 9c 90")
    check(program.program(cpl=cpl), [3, 4, 6])


@pytest.mark.parametrize("iopl", [0x0000, 0x1000, 0x2000, 0x3000], ids=hex)
@RINGS
def test_iopl_decides_about_the_interrupt_flag(iopl: int, cpl: int) -> None:
    for opcode in ("fa", "fb", "9c 80 74 24 01 02 9d"):
        check(Assembler().raw("9c").raw(opcode).raw("9c 90").program(cpl=cpl, rflags=iopl | 2), [1, 2])


@RINGS
@pytest.mark.parametrize("rflags", [2, 0x8D7, 0x497])
def test_lahf_sahf_and_the_single_flag_instructions(cpl: int, rflags: int) -> None:
    code = "9f f5 9f f8 9f f9 9f fd 9c fc 9c b4 d7 9e 9c 30 e4 9e 9c f5 d6"[:-2]
    check(Assembler().raw(code).program(cpl=cpl, rflags=rflags), [4, 9])


@RINGS
def test_increments_keep_the_carry(cpl: int) -> None:
    code = "f9 ff c0 fe c8 48 ff 06 66 ff 0e 73 00 f8 ff c8 fe 06 72 00 f9 f7 d0 4c 8d 09 48 83 d0 00 9c"
    check(Assembler().raw(code).program(cpl=cpl, gpr={"rax": 0x7FFF_FFFF}), [6, 12])


@BASES
@pytest.mark.parametrize("rflags", [2, CF | ZF | 2, 0x8D7, IF | 2, DF | 2, IOPL | 2, IF | IOPL | NT | 2, AC | ID | 2], ids=hex)
def test_iretq_to_the_same_level(base: int, rflags: int) -> None:
    """Three times from the same place: the first tells the monitor what a later one may take for granted."""
    program = Assembler(base).load(Register.RBP, 3).label("again")
    program.load(Register.RDX, base + layout.STACK + 0x800).load(Register.RAX, rflags)
    program.address(Register.RCX, "there").raw("6a 10 52 50 6a 08 51 48 cf").raw("0f 0b").label("there")
    program.raw("9c 48 83 d3 00 48 ff cd").branch(Code.JNE_REL32_64, "again").raw("90")
    check(program.program(), [6, 8, 9, 20, 28])


@pytest.mark.parametrize("rflags", [2, IF | 2, IOPL | IF | 2])
def test_iretq_to_the_user(rflags: int) -> None:
    """The page of code is the kernel's, so that the user faults at once, with its own state."""
    program = Assembler().load(Register.RDX, layout.LOW + layout.STACK + 0x800).load(Register.RAX, rflags)
    program.address(Register.RCX, "there").raw("6a 1b 52 50 6a 23 51 48 cf").label("there").raw("90 90")
    outcome = check(program.program(), [7, 8])
    assert outcome.fault is not None and outcome.fault.error == 0x15


@pytest.mark.parametrize(("code", "stack"), [(0x10, 0x10), (0x08, 0x38), (0x00, 0x10), (0x23, 0x10), (0x40, 0x10)])
def test_iretq_with_a_bad_selector_changes_nothing(code: int, stack: int) -> None:
    """After a good return from the same instruction."""
    program = Assembler().load(Register.RBP, 2).label("again").load(Register.RDX, layout.LOW + layout.STACK + 0x800)
    program.address(Register.RCX, "there").raw("6a 10 52 6a 02 6a 08 51").branch(Code.JMP_REL8_64, "return")
    program.label("return").raw("48 cf").label("there").raw("ff cd").branch(Code.JNE_REL32_64, "again")
    program.raw(b"\x6a" + struct.pack("<b", stack) + b"\x52\x6a\x02\x6a" + struct.pack("<b", code) + b"\x51")
    program.branch(Code.JMP_REL8_64, "return")
    outcome = check(program.program(limit=60))
    assert outcome.fault is not None


@BASES
def test_iretq_to_null_selectors_faults_when_nothing_was_returned_to_before(base: int) -> None:
    """The frame has a good RIP, so that a return would be noticed."""
    program = Assembler(base).address(Register.RCX, "there").load(Register.RDX, base + layout.STACK + 0x800)
    outcome = check(program.raw("6a 00 52 6a 02 6a 00 51 48 cf 90").label("there").raw("90 90").program(), [7])
    assert outcome.fault is not None and outcome.fault.vector == 13


@pytest.mark.parametrize("rip", [0x8000_0000_0000, 0xFF10_0000_0000_0000, 0x1234_5678_0000_0000], ids=hex)
def test_iretq_to_no_address_faults_at_the_iretq(rip: int) -> None:
    """Like a branch there: the reference would go, so that only the state in front is compared with it."""
    program = Assembler().load(Register.RDX, layout.LOW + layout.STACK + 0x800).load(Register.RCX, rip)
    check(program.raw("6a 10 52 6a 02 6a 08 51 48 cf 90").program(), [3])
