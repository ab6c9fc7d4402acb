"""While CR4.OSFXSR is clear, SSE instructions are #UD, and no others are (SDM vol. 3A, 2.5; vol. 2A, SHLX, ADCX, CRC32)."""

from __future__ import annotations

import lockstep_layout as layout
import pytest
from lockstep import Translated, in_place, translated
from lockstep_state import Program

from dbgvmm.cpu.bits import CR4, Vector

GENERAL = {
    "shlx r8d, r8d, edx": "c4 42 69 f7 c0",
    "mulx rax, rcx, rdx": "c4 e2 f3 f6 c2",
    "rorx rax, rdx, 3": "c4 e3 fb f0 c2 03",
    "adcx rax, rdx": "66 48 0f 38 f6 c2",
    "movbe ax, [rbx]": "66 0f 38 f0 03",
    "crc32 rax, rdx": "f2 48 0f 38 f1 c2",
    "popcnt rax, rdx": "f3 48 0f b8 c2",
    "movq mm0, [rbx]": "0f 6f 03",
    "movnti [rbx], rax": "48 0f c3 03",
}
SSE = {
    "movaps xmm0, xmm1": "0f 28 c1",
    "movsd xmm0, [rbx]": "f2 0f 10 03",
    "cvtsd2si rax, [rbx]": "f2 48 0f 2d 03",
    "cvtps2pi mm0, [rbx]": "0f 2d 03",
    "ldmxcsr [rbx]": "0f ae 13",
    "stmxcsr [rbx]": "0f ae 1b",
    "pcmpeqb xmm0, xmm1": "66 0f 74 c1",
    "pshufb xmm0, xmm1": "66 0f 38 00 c1",
}
CLEAR = "0f 20 e0 48 0f ba f0 09 0f 22 e0"
SET = "0f 20 e0 48 0f ba e8 09 0f 22 e0"
"""`mov rax, cr4; btr rax, 9` (bts); `mov cr4, rax`"""
AWAY = "eb 00 0f 0b"
"""A UD2 in a block of its own, so that what comes before may run in place."""
START = Program(b"").start
WAYS = pytest.mark.parametrize(("cpl", "user"), [(0, "bt"), (3, "bt"), (3, "direct")])


@pytest.fixture(scope="module")
def machines() -> dict[str, Translated]:
    return {"bt": translated(), "direct": in_place()}


def load(machine: Translated, code: str, cpl: int, *, sse: bool) -> None:
    machine.load(Program(bytes.fromhex("90 eb 00" + code + AWAY), cpl=cpl))
    if not sse:
        machine.machine.cpu.cr4 &= ~CR4.OSFXSR


def faulted_at(machine: Translated) -> int:
    """Offset in the program at which #UD was raised."""
    machine.run_freely(layout.SYSTEM, 1)
    fault = machine.fault()
    assert fault is not None and fault.vector == Vector.UD
    return machine.registers().rip - START


@WAYS
@pytest.mark.parametrize("name", [*GENERAL, *SSE])
def test_who_is_an_invalid_opcode_without_osfxsr(machines: dict[str, Translated], name: str, cpl: int, user: str) -> None:
    code = (GENERAL | SSE)[name]
    machine = machines[user]
    end = 3 + len(bytes.fromhex(code)) + 2
    load(machine, code, cpl, sse=False)
    assert faulted_at(machine) == (3 if name in SSE else end)
    load(machine, code, cpl, sse=True)
    assert faulted_at(machine) == end


def test_a_kernel_may_change_its_mind(machines: dict[str, Translated]) -> None:
    """In one loop body, whose translation is made anew: off, BMI2, on, SSE, off, and SSE again."""
    before = CLEAR + GENERAL["shlx r8d, r8d, edx"] + SET + SSE["movaps xmm0, xmm1"] + CLEAR
    machine = machines["bt"]
    load(machine, before + SSE["movaps xmm0, xmm1"], 0, sse=True)
    assert faulted_at(machine) == 3 + len(bytes.fromhex(before))
    assert machine.retired == 2 + 3 * 3 + 2
