"""How each instruction is translated. The class depends on the opcode only, so it is decided once per iced `Code`.

IDENT instructions are copied. Everything that the deprivileged guest would execute differently from CPL 0, or that
the monitor must see, has another class (Adams & Agesen 2006, section 3.1: "sensitive" instructions).

One bit of the CPU's state matters. While CR4.OSFXSR is clear, SSE instructions are INVALID here and the hardware's own
OSFXSR stays set: what the engine calls SSE goes by the opcode map, and has some of BMI2 and ADX in it, which must run.
"""

from __future__ import annotations

from typing import Final

from iced_x86 import Code, FlowControl, Instruction, Mnemonic, OpCodeOperandKind

IDENT: Final = 0
JCC: Final = 1
JMP: Final = 2
CALL: Final = 3
RET: Final = 4
INDIRECT_JMP: Final = 5
INDIRECT_CALL: Final = 6
CALLOUT: Final = 7
LOOP: Final = 8
POPF: Final = 9
STI: Final = 10
PUSHF: Final = 11
INVALID: Final = 12
PAUSE: Final = 13
RDTSC: Final = 14
WIDE_EXCHANGE: Final = 15
IRETQ: Final = 16

STRAIGHT: Final = frozenset((IDENT, PUSHF, POPF, STI, PAUSE, RDTSC, WIDE_EXCHANGE))
"""Classes that do not end a unit."""

CALLOUT_MNEMONICS: Final = frozenset(
    getattr(Mnemonic, name)
    for name in (
        "HLT LGDT LIDT SGDT SIDT LLDT SLDT LTR STR SMSW LMSW CLTS INVLPG INVPCID INVD WBINVD WBNOINVD WRMSR RDMSR RDTSC "
        "RDTSCP RDPMC CPUID IN OUT INSB INSW INSD OUTSB OUTSW OUTSD SYSCALL SYSRET SYSRETQ SYSENTER SYSEXIT SYSEXITQ "
        "IRET IRETD IRETQ INT INT3 INT1 INTO SWAPGS LAR LSL VERR VERW LFS LGS LSS STAC CLAC XSETBV MONITOR "
        "MWAIT MONITORX MWAITX RSM VMCALL VMLAUNCH VMRESUME VMXOFF VMXON VMREAD VMWRITE VMPTRLD VMPTRST VMCLEAR VMFUNC "
        "INVEPT INVVPID VMRUN VMMCALL VMLOAD VMSAVE STGI CLGI SKINIT INVLPGA GETSEC RDRAND RDSEED RDPID UD0 UD1 UD2 "
        "RDFSBASE RDGSBASE WRFSBASE WRGSBASE XBEGIN XEND XABORT XTEST"
    ).split()
)
"""Sensitive by name, whatever the operands."""
_SEGMENT_WRITES: Final = frozenset(
    (Code.MOV_SREG_RM16, Code.MOV_SREG_R32M16, Code.MOV_SREG_R64M16, Code.POPW_FS, Code.POPD_FS, Code.POPQ_FS,
     Code.POPW_GS, Code.POPD_GS, Code.POPQ_GS)
)  # fmt: skip
_CONTROL_MOVES: Final = frozenset(
    (Code.MOV_R64_CR, Code.MOV_CR_R64, Code.MOV_R64_DR, Code.MOV_DR_R64, Code.MOV_R32_CR, Code.MOV_CR_R32,
     Code.MOV_R32_DR, Code.MOV_DR_R32)
)  # fmt: skip
_FLAG_KILLERS: Final = frozenset(
    (Mnemonic.ADD, Mnemonic.SUB, Mnemonic.CMP, Mnemonic.TEST, Mnemonic.AND, Mnemonic.OR, Mnemonic.XOR, Mnemonic.NEG)
)
"""These overwrite all six arithmetic flags and read none; with register operands they cannot fault either."""
_XMM_OPERANDS: Final = frozenset(
    kind for name, kind in vars(OpCodeOperandKind).items() if isinstance(kind, int) and "XMM" in name
)  # fmt: skip
_MXCSR: Final = frozenset((Mnemonic.LDMXCSR, Mnemonic.STMXCSR))
_LOOPS: Final = frozenset((Mnemonic.LOOP, Mnemonic.LOOPE, Mnemonic.LOOPNE, Mnemonic.JRCXZ, Mnemonic.JECXZ))


def _classify(instruction: Instruction) -> int:
    mnemonic, code, flow = instruction.mnemonic, instruction.code, instruction.flow_control
    if code == Code.INVALID:
        return INVALID
    if mnemonic == Mnemonic.PAUSE:
        return PAUSE
    if mnemonic == Mnemonic.IRETQ:
        return IRETQ
    if mnemonic in (Mnemonic.CMPXCHG8B, Mnemonic.CMPXCHG16B):
        return WIDE_EXCHANGE
    if mnemonic == Mnemonic.RDTSC:
        return RDTSC
    if mnemonic in CALLOUT_MNEMONICS or code in _SEGMENT_WRITES or code in _CONTROL_MOVES:
        return CALLOUT
    if mnemonic in (Mnemonic.POPFQ, Mnemonic.POPF, Mnemonic.POPFD):
        return POPF
    if mnemonic in (Mnemonic.PUSHFQ, Mnemonic.PUSHF, Mnemonic.PUSHFD):
        return PUSHF
    if mnemonic == Mnemonic.STI:
        return STI
    if flow == FlowControl.NEXT:
        return IDENT
    if mnemonic in _LOOPS:
        return LOOP
    far = instruction.is_jmp_far, instruction.is_call_far, instruction.is_jmp_far_indirect, instruction.is_call_far_indirect
    if any(far) or mnemonic == Mnemonic.RETF:
        return CALLOUT
    simple = {
        FlowControl.CONDITIONAL_BRANCH: JCC,
        FlowControl.UNCONDITIONAL_BRANCH: JMP,
        FlowControl.CALL: CALL,
        FlowControl.RETURN: RET,
        FlowControl.INDIRECT_BRANCH: INDIRECT_JMP,
        FlowControl.INDIRECT_CALL: INDIRECT_CALL,
    }
    return simple.get(flow, CALLOUT)


def uses_sse_state(instruction: Instruction) -> bool:
    """Whether the opcode has to do with XMM registers or MXCSR: #UD while CR4.OSFXSR is clear (SDM vol. 3A, 2.5)."""
    opcode = instruction.op_code()
    kinds = (opcode.op_kind(operand) for operand in range(opcode.op_count))
    return instruction.mnemonic in _MXCSR or any(kind in _XMM_OPERANDS for kind in kinds)


class Classifier:
    """Remembers class and flag behaviour per opcode."""

    def __init__(self) -> None:
        self._sse = True
        self.classes: dict[int, int] = {}
        self.kills_flags: dict[int, bool] = {}

    def learn(self, instruction: Instruction) -> int:
        """Classify an opcode seen for the first time."""
        code = instruction.code
        kind = _classify(instruction) if self._sse or not uses_sse_state(instruction) else INVALID
        self.classes[code] = kind
        self.kills_flags[code] = kind == IDENT and instruction.mnemonic in _FLAG_KILLERS
        return kind

    def switch_sse(self, on: bool) -> None:
        """CR4.OSFXSR is `on` from now on."""
        self._sse = on
        self.classes.clear()
        self.kills_flags.clear()
