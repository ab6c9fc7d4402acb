"""How instructions are classified: what is copied, what is rewritten, what the monitor carries out."""

from __future__ import annotations

import pytest
from iced_x86 import Code, Decoder, FlowControl, Instruction, Mnemonic, OpCodeInfo, Register
from lockstep_random import FEATURES

from dbgvmm.bt import classify as cls
from dbgvmm.bt.classify import Classifier

TABLE = {
    "IDENT": ("90", "48 01 d8", "48 8b 05 00 00 00 00", "8c d8", "8c c8", "0f a0", "fa", "f3 a4", "5a", "d9 e8", "0f 28 c1",
              "9f", "9e", "f9", "f8", "0f ae e8", "0f b1 0b", "6a 01", "c9", "0f 18 03"),
    "JCC": ("74 00", "0f 84 00 00 00 00"),
    "JMP": ("eb 00", "e9 00 00 00 00"),
    "CALL": ("e8 00 00 00 00",),
    "RET": ("c3", "c2 08 00", "f3 c3"),
    "INDIRECT_JMP": ("ff e0", "ff 24 c8", "ff 25 00 00 00 00"),
    "INDIRECT_CALL": ("ff d0", "ff 14 24"),
    "LOOP": ("e2 fe", "e1 fe", "e0 fe", "e3 fe", "67 e3 fe"),
    "POPF": ("9d", "66 9d"),
    "PUSHF": ("9c", "66 9c"),
    "STI": ("fb",),
    "PAUSE": ("f3 90",),
    "RDTSC": ("0f 31",),
    "WIDE_EXCHANGE": ("0f c7 0b", "48 0f c7 0b", "f0 48 0f c7 0b"),
    "IRETQ": ("48 cf",),
    "INVALID": ("06", "62 00", "f0 90"),
    "CALLOUT": (
        "f4", "0f 01 10", "0f 01 18", "0f 01 00", "0f 01 08", "0f 00 d0", "0f 00 c0", "0f 00 d8", "0f 00 c8", "0f 01 e0",
        "0f 01 f0", "0f 06", "0f 01 38", "66 0f 38 82 03", "0f 08", "0f 09", "0f 30", "0f 32", "0f 01 f9", "0f 33", "0f a2",
        "ec", "ee", "e4 60", "e6 60", "6c", "6d", "6e", "6f", "f3 6c", "0f 05", "0f 07", "48 0f 07", "0f 34", "0f 35",
        "cf", "66 cf", "cd 80", "cc", "f1", "0f 01 f8", "0f 02 c0", "0f 03 c0", "0f 00 e0", "0f 00 e8", "0f b2 03", "0f b4 03",
        "0f b5 03", "0f 01 ca", "0f 01 cb", "0f 01 d1", "0f 01 c8", "0f 01 c9", "0f aa", "0f 01 c1", "0f c7 f0", "0f c7 f8",
        "f3 0f ae c0", "f3 0f ae c8", "f3 0f ae d0", "f3 0f ae d8", "0f 0b", "0f b9 c0", "8e d8", "8e c0", "8e d0", "8e e0",
        "0f a1", "0f a9", "0f 20 c0", "0f 22 d8", "0f 21 f8", "0f 23 f8", "cb", "ca 08 00", "48 cb", "ff 2b", "ff 1b",
        "48 ff 2b",
    ),
}  # fmt: skip


def decode(code: str) -> Instruction:
    return Decoder(64, bytes.fromhex(code), ip=0x1000).decode()


@pytest.mark.parametrize(("code", "name"), [(code, name) for name, codes in TABLE.items() for code in codes])
def test_the_class_of(code: str, name: str) -> None:
    assert Classifier().learn(decode(code)) == getattr(cls, name), str(decode(code))


def test_a_class_is_learnt_once_per_opcode() -> None:
    classifier = Classifier()
    instruction = decode("48 01 d8")
    assert classifier.learn(instruction) == classifier.classes[instruction.code] == cls.IDENT


def _codes_of_long_mode() -> list[int]:
    names = [name for name in dir(Code) if name.isupper() and isinstance(getattr(Code, name), int)]
    codes = sorted({getattr(Code, name) for name in names})
    return [code for code in codes if code != Code.INVALID and OpCodeInfo(code).mode64 and OpCodeInfo(code).is_instruction]


def _instruction(code: int) -> Instruction:
    instruction = Instruction()
    instruction.code = code
    return instruction


def test_nothing_privileged_is_copied_but_cli() -> None:
    """CLI is: the guest's IF is the hardware's, and IOPL makes it legal in the kernel and a fault for the user.

    What the engine does not have is copied and raises #UD.
    """
    copied = {
        instruction.mnemonic for instruction in map(_instruction, _codes_of_long_mode())
        if instruction.is_privileged and FEATURES.issuperset(instruction.cpuid_features())
        and Classifier().learn(instruction) == cls.IDENT
    }  # fmt: skip
    assert copied == {Mnemonic.CLI}


def test_nothing_that_jumps_is_copied() -> None:
    """What iced calls NEXT goes to the next instruction; all else needs a class of its own."""
    for code in _codes_of_long_mode():
        instruction = _instruction(code)
        if instruction.flow_control != FlowControl.NEXT:
            assert Classifier().learn(instruction) != cls.IDENT, str(OpCodeInfo(code))


def test_only_what_cannot_fault_and_overwrites_all_flags_hides_the_count() -> None:
    classifier = Classifier()
    cases = {"48 01 d8": True, "85 c0": True, "48 11 d8": False, "ff c0": False, "d1 e0": False, "90": False}
    for code, kills in cases.items():
        instruction = decode(code)
        classifier.learn(instruction)
        assert classifier.kills_flags[instruction.code] is kills, code


def test_no_class_depends_on_operands() -> None:
    """It is remembered by opcode, so two encodings of one opcode must agree."""
    classifier = Classifier()
    for register in (Register.RAX, Register.RSP, Register.R12):
        instruction = Instruction.create_reg(Code.JMP_RM64, register)
        assert classifier.learn(instruction) == cls.INDIRECT_JMP
