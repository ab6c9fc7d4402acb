"""Guilty stores, which the monitor carries out itself: their operands, taken apart once, must be what `Operands` finds."""

from __future__ import annotations

import pytest
from iced_x86 import Decoder, Instruction
from lockstep import Translated

from dbgvmm.bt.operands import Operands
from dbgvmm.bt.stores import StoreSite
from dbgvmm.bt.units import CodePage, TranslationUnit
from dbgvmm.cpu.bits import GPR, SReg, Vector
from dbgvmm.cpu.faults import GuestFault

RIP = 0xFFFF_FFFF_8100_0000
STORES = {
    "48 89 08": 8,  # mov [rax], rcx
    "89 08": 4,
    "66 89 08": 2,
    "48 89 4c d8 f0": 8,  # mov [rax + rbx*8 - 16], rcx
    "4e 89 3c 03": 8,  # mov [rbx + r8], r15
    "48 89 0c 25 00 10 00 80": 8,  # mov [0xffffffff80001000], rcx
    "48 89 0c dd 00 10 00 00": 8,  # mov [rbx*8 + 0x1000], rcx
    "48 89 0d 10 00 00 00": 8,  # mov [rip + 16], rcx
    "66 c7 05 10 00 00 00 34 92": 2,  # mov word [rip + 16], 0x9234
    "48 c7 04 24 fe ff ff ff": 8,  # mov qword [rsp], -2
    "48 c7 45 08 fe ff ff ff": 8,  # mov qword [rbp + 8], -2
    "c7 00 fe ff ff ff": 4,
    "64 48 89 08": 8,  # mov fs:[rax], rcx
    "65 89 0c 25 30 00 00 00": 4,  # mov gs:[0x30], ecx
    "67 48 89 08": 8,  # mov [eax], rcx
    "67 89 4c 98 f0": 4,  # mov [eax + ebx*4 - 16], ecx
    "67 89 0c 9d 00 10 00 00": 4,  # mov [ebx*4 + 0x1000], ecx
    "67 89 0d 10 00 00 00": 4,  # mov [eip + 16], ecx
}


@pytest.fixture(scope="module")
def operands() -> Operands:
    machine = Translated().machine
    cpu = machine.cpu
    cpu.segs[SReg.CS].attributes = 0xA09B  # 64-bit code
    cpu.efer |= 1 << 10
    cpu.gpr[:] = memoryview(bytes(128)).cast("Q")
    for number in range(16):
        cpu.gpr[number] = 0x1_2345_6780 + 0x1000 * number
    cpu.gpr[GPR.R15] = 0xFEDC_BA98_7654_3210
    cpu.segs[SReg.FS].base, cpu.segs[SReg.GS].base = 0x7FF0_0000_0000, 0xFFFF_8880_0000_0000
    assert cpu.in_64bit_code
    return machine.callouts.operands


def site(code: str) -> tuple[StoreSite, Instruction]:
    instruction = Decoder(64, bytes.fromhex(code), ip=RIP).decode()
    unit = TranslationUnit(RIP, CodePage(RIP, ((RIP, 1),), False, True))
    return StoreSite(unit, RIP, instruction, 0), instruction


@pytest.mark.parametrize(("code", "size"), STORES.items())
def test_a_store_site_finds_address_and_value_as_operands_do(operands: Operands, code: str, size: int) -> None:
    store, instruction = site(code)
    assert store.address(operands) == operands.linear(instruction)
    assert store.value(operands) == operands.read(instruction, 1) & (1 << 8 * size) - 1
    assert (store.size, store.next_rip) == (size, RIP + instruction.len)


@pytest.mark.parametrize(("code", "register", "vector"), [
    ("48 89 08", GPR.RAX, Vector.GP), ("48 89 0c 24", GPR.RSP, Vector.SS), ("48 89 4d 00", GPR.RBP, Vector.SS),
])  # fmt: skip
def test_a_store_to_no_address_faults(operands: Operands, code: str, register: int, vector: int) -> None:
    before = operands.cpu.gpr[register]
    operands.cpu.gpr[register] = 1 << 60
    with pytest.raises(GuestFault) as raised:
        site(code)[0].address(operands)
    operands.cpu.gpr[register] = before
    assert (raised.value.vector, raised.value.error_code) == (vector, 0)
