"""Random instructions: bytes put together at random, filtered through the decoder.

Sensitive instructions (which the monitor carries out, and which have tests of their own) and branches are left out.
Memory operands are steered into the data pages most of the time, or every program would end at its first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import lockstep_layout as layout
from hypothesis import strategies as st
from iced_x86 import Code, CpuidFeature, Decoder, FlowControl, Instruction, Mnemonic, Register
from lockstep_reference import SENSITIVE, undefined_after

_ASIDE: Final = SENSITIVE | {getattr(Mnemonic, name) for name in "CLI STI POPF POPFD POPFQ PAUSE".split()}
_X87_ENVIRONMENT: Final = frozenset(
    getattr(Mnemonic, name) for name in "FNSTENV FSTENV FNSAVE FSAVE FXSAVE FXSAVE64 FLDENV FRSTOR FXRSTOR FXRSTOR64".split()
)
_DOUBLE_SHIFTS: Final = frozenset((Mnemonic.SHLD, Mnemonic.SHRD))
_SYSTEM_REGISTERS: Final = (
    *range(Register.CR0, Register.CR15 + 1), *range(Register.DR0, Register.DR15 + 1), *range(Register.TR0, Register.TR7 + 1),
)  # fmt: skip
_SEGMENTS: Final = range(Register.ES, Register.GS + 1)
FEATURES: Final = frozenset(
    getattr(CpuidFeature, name)
    for name in (
        "INTEL8086 INTEL186 INTEL286 INTEL386 INTEL486 X64 CPUID CMOV CX8 CMPXCHG16B MULTIBYTENOP FPU FPU287 FPU387 MMX SSE "
        "SSE2 SSE3 SSSE3 SSE4_1 SSE4_2 POPCNT LZCNT BMI1 BMI2 ADX MOVBE AES PCLMULQDQ CLFSH FXSR PAUSE PREFETCHW"
    ).split()
    if hasattr(CpuidFeature, name)
)
"""What both the engine and the guest's CPUID have. (Others raise #UD on the engine, or worse, do something.)"""
_PREFIXES: Final = (b"", b"", b"", b"\x66", b"\xf2", b"\xf3", b"\x67", b"\x64", b"\x65", b"\x2e", b"\x66\xf3", b"\xf0")
_MAPS: Final = (b"", b"", b"", b"\x0f", b"\x0f", b"\x0f\x38", b"\x0f\x3a")


def is_plain(instruction: Instruction) -> bool:
    """Whether an instruction is one that the translator should copy or relocate."""
    if instruction.code == Code.INVALID or instruction.mnemonic in _ASIDE or instruction.is_privileged:
        return False
    if instruction.flow_control != FlowControl.NEXT or instruction.mnemonic in _X87_ENVIRONMENT:
        return False
    if instruction.mnemonic in _DOUBLE_SHIFTS and instruction.is_ip_rel_memory_operand and instruction.op_count == 3:
        return False  # the reference forgets the immediate when it adds RIP
    features = instruction.cpuid_features()
    if any(feature not in FEATURES for feature in features):
        return False
    registers = [instruction.op_register(n) for n in range(instruction.op_count)]
    if any(register in _SYSTEM_REGISTERS for register in registers):
        return False
    if any(Register.MM0 <= register <= Register.MM7 for register in registers) and CpuidFeature.SSSE3 in features:
        return False  # the engine takes REX.R for a bit of the register's number, and writes behind its registers
    return not (registers and registers[0] in _SEGMENTS and instruction.mnemonic in (Mnemonic.MOV, Mnemonic.POP))


@dataclass(frozen=True)
class Genes:
    """What a random instruction is made of. `bytes_at` turns it into bytes for an address."""

    map: bytes
    opcode: int
    prefix: bytes
    rex: int
    modrm: int
    sib: int
    displacement: int
    immediate: bytes
    wild: bool

    def bytes_at(self, rip: int, base: int) -> bytes:
        """The instruction's bytes, or none if they are not an instruction that we want."""
        rex = bytes((0x40 | self.rex,)) if self.rex < 16 else b""
        head = self.prefix + rex + self.map + bytes((self.opcode, self.modrm, self.sib))
        raw = head + self.displacement.to_bytes(4, "little") + self.immediate
        decoder = Decoder(64, raw[:15], ip=rip)
        instruction = decoder.decode()
        if not is_plain(instruction):
            return b""
        raw = raw[: instruction.len]
        offsets = decoder.get_constant_offsets(instruction)
        if self.wild or not offsets.has_displacement:
            return raw
        at, size = offsets.displacement_offset, offsets.displacement_size
        return raw[:at] + self._steered(instruction, base, size).to_bytes(size, "little") + raw[at + size :]

    def _steered(self, instruction: Instruction, base: int, size: int) -> int:
        """A displacement that leads to data."""
        within = self.displacement % (layout.DATA_PAGES * layout.PAGE - 64)
        if instruction.is_ip_rel_memory_operand:
            value = base + layout.DATA + within - instruction.next_ip
        elif size == 8 or instruction.memory_base == Register.NONE:
            value = base + layout.DATA + within
        else:
            value = within % 64
        return value & (1 << 8 * size) - 1


def genes() -> st.SearchStrategy[Genes]:
    """Any instruction."""
    byte = st.integers(0, 255)
    return st.builds(
        Genes,
        map=st.sampled_from(_MAPS),
        opcode=byte,
        prefix=st.sampled_from(_PREFIXES),
        rex=st.integers(0, 31),
        modrm=byte,
        sib=byte,
        displacement=st.integers(0, (1 << 32) - 1),
        immediate=st.binary(min_size=8, max_size=8),
        wild=st.sampled_from((False, False, False, False, False, False, False, True)),
    )


def assemble(sequence: list[Genes], base: int, offset: int) -> bytes:
    """The sequence as code for base + offset."""
    code = b""
    for gene in sequence:
        code += gene.bytes_at(base + offset + len(code), base)
    return code


def leaves_flags_undefined(code: bytes, start: int) -> bool:
    """Whether some flag's value depends on how the engine cuts the code into blocks (see `undefined_after`)."""
    undefined = 0
    for instruction in Decoder(64, code, ip=start):
        undefined |= undefined_after(instruction, 0)
    return undefined != 0
