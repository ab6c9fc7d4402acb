"""x87, MMX and SSE: the same engine computes, so what can go wrong is state: tops, tags, addresses, half-done stores."""

from __future__ import annotations

import lockstep_layout as layout
import pytest
from iced_x86 import Code, Register
from lockstep import check
from lockstep_assembler import Assembler

RINGS = pytest.mark.parametrize("cpl", [0, 3])
BASES = pytest.mark.parametrize("base", [layout.LOW, layout.USER_HALF, layout.KERNEL], ids=hex)
SETUP = "db e3 d9 e8 d9 eb d9 06"  # fninit; fld1; fldpi; fld [rsi]


@RINGS
@BASES
def test_x87_arithmetic_and_stores(cpl: int, base: int) -> None:
    code = "de c1 d9 fa dd 1b d9 c0 d8 c9 df 3b db e8 9f df e0 dd d8 d9 3b d9 2b da d1 d9 e1 d9 fe d9 1b"
    check(Assembler(base).raw(SETUP).raw(code).program(cpl=cpl, rflags=0x8D7), [4, 9, 12])


@RINGS
def test_an_unmasked_x87_exception_comes_with_the_next_waiting_instruction(cpl: int) -> None:
    program = Assembler().raw("db e3 68 40 03 00 00 d9 2c 24 d9 e8 d9 ee de f9 90 90 9b 90")
    outcome = check(program.program(cpl=cpl), [5, 7])
    assert outcome.fault is not None and outcome.fault.vector == 16


@RINGS
@BASES
def test_sse_state(cpl: int, base: int) -> None:
    code = (
        "0f 28 c1 66 0f ef c2 f2 0f 58 0e 0f c6 d1 1b 66 0f 6f 1b f3 0f 7f 1b 66 0f 38 00 dc 0f ae 1b 0f ae 13 66 0f 2f c1"
        "77 00 66 48 0f 7e c8 f3 48 0f 2a d0 f2 48 0f 2d c2 66 0f d7 c3 0f 50 cb 0f 77 0f 6f 06 0f fe c0 0f 7f 03"
    )
    check(Assembler(base).raw(code).program(cpl=cpl), [3, 9, 14])


@RINGS
def test_an_aligned_access_that_is_not_aligned(cpl: int) -> None:
    check(Assembler().raw("0f 28 46 01 90 66 0f 7f 43 02 90").program(cpl=cpl), [1])


@pytest.mark.parametrize("where", [layout.HOLE, layout.READ_ONLY, layout.SUPERVISOR], ids=hex)
@pytest.mark.parametrize("distance", [1, 8, 15])
def test_sixteen_bytes_over_a_page_end(where: int, distance: int) -> None:
    for opcode in ("f3 0f 6f 03", "f3 0f 7f 03"):
        program = Assembler().load(Register.RBX, layout.LOW + where - distance)
        check(program.raw("90").raw(opcode).raw("90").program(cpl=3), [2])


@RINGS
def test_bit_manipulation_extensions(cpl: int) -> None:
    code = (
        "c4 e2 78 f2 c1 c4 e2 f0 f7 06 c4 e2 fb f6 de c4 e2 79 f7 c3 f3 0f bc c1 f3 0f bd d0 f3 48 0f b8 06 c4 e2 f8 f3 c8"
        "c4 e2 f8 f3 d3 c4 e2 f8 f3 db c4 e2 f3 f5 c6 c4 e2 f2 f5 c6 c4 e3 fb f0 c8 11 66 48 0f 38 f6 c1 f3 48 0f 38 f6 c2"
    )
    check(Assembler().raw(code).branch(Code.JMP_REL8_64, "x").label("x").raw("48 11 c0").program(cpl=cpl), [3, 8])
