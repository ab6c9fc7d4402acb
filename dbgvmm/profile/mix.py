"""The instruction mix: how often instructions of each class and each mnemonic retired, exactly, kernel and user apart.

QEMU's howvec plugin for x86, which it does not know: classes are those of the SDM's overview (vol. 1, chapter 5), coarser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from iced_x86 import (
    CpuidFeature,
    FlowControl,
    Instruction,
    InstructionInfoFactory,
    Mnemonic,
    OpAccess,
)

from dbgvmm.profile.counts import ExecutionCounts

_NAMES: Final = {value: name.lower() for name, value in vars(Mnemonic).items() if isinstance(value, int)}
_FLOW: Final = {
    FlowControl.CONDITIONAL_BRANCH: "conditional branch",
    FlowControl.UNCONDITIONAL_BRANCH: "jump",
    FlowControl.INDIRECT_BRANCH: "indirect jump",
    FlowControl.CALL: "call",
    FlowControl.INDIRECT_CALL: "indirect call",
    FlowControl.RETURN: "return",
    FlowControl.INTERRUPT: "system",
    FlowControl.EXCEPTION: "system",
}
_BY_NAME: Final = (
    ("system", "syscall sysenter sysret sysretq sysexit sysexitq iret iretd iretq cpuid rdtsc rdtscp sgdt sidt sldt str smsw "
     "swapgs lar lsl verr verw rdpid rdfsbase rdgsbase wrfsbase wrgsbase stac clac cli sti in out insb insw insd outsb outsw "
     "outsd lgdt lidt lldt ltr xgetbv xsetbv"),
    ("no operation", "nop pause endbr64 endbr32"),
    ("fence", "mfence lfence sfence"),
    ("address", "lea"),
    ("move", "mov movabs movzx movsx movsxd movbe xchg bswap cbw cwde cdqe cwd cdq cqo xlatb lahf sahf"),
    ("compare", "cmp test"),
    ("arithmetic", "add sub adc sbb inc dec neg mul imul div idiv adcx adox mulx cmpxchg cmpxchg8b cmpxchg16b xadd"),
    ("logic", "and or xor not andn"),
    ("shift", "shl shr sal sar rol ror rcl rcr shld shrd sarx shlx shrx rorx"),
    ("bit", "bt bts btr btc bsf bsr tzcnt lzcnt popcnt blsi blsr blsmsk bextr bzhi pdep pext crc32"),
    ("flags", "clc stc cmc cld std pushf pushfd pushfq popf popfd popfq"),
)  # fmt: skip
_CLASS_OF: Final = {name: kind for kind, names in _BY_NAME for name in names.split()}
_X87: Final = frozenset((CpuidFeature.FPU, CpuidFeature.FPU287, CpuidFeature.FPU387))
_VECTOR: Final = frozenset(
    value for name, value in vars(CpuidFeature).items()
    if isinstance(value, int) and name.startswith(("MMX", "SSE", "SSSE", "AVX", "AES", "PCLMUL", "SHA", "GFNI", "VAES", "FMA"))
)  # fmt: skip
_SYNCHRONISING: Final = frozenset((Mnemonic.XCHG,))
_READS: Final = frozenset((OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
_WRITES: Final = frozenset((OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))


@dataclass(frozen=True)
class MixRow:
    """Instructions of one kind that retired: in all, and those at CPL 3."""

    name: str
    times: int
    user: int


@dataclass(frozen=True)
class InstructionMix:
    """The whole mix. classes and mnemonics: most frequent first; each sums up to `total`. loads and stores: instructions
    that read and that write memory, once each (a read-modify-write is in both)."""

    total: int
    user_total: int
    classes: tuple[MixRow, ...]
    mnemonics: tuple[MixRow, ...]
    loads: int
    stores: int
    locked: int


def instruction_class(instruction: Instruction) -> str:
    """What kind of instruction this is."""
    name = _NAMES[instruction.mnemonic]
    known = _CLASS_OF.get(name, "")
    if known in ("system", "flags", "fence"):
        return known
    if instruction.is_privileged:
        return "system"
    flow = _FLOW.get(instruction.flow_control)
    if flow is not None:
        return flow
    features = instruction.cpuid_features()
    if not _VECTOR.isdisjoint(features):
        return "vector"
    if not _X87.isdisjoint(features):
        return "x87"
    if instruction.is_string_instruction:
        return "string"
    if instruction.is_stack_instruction:
        return "stack"
    if name.startswith("cmov"):
        return "move"
    if name.startswith("set"):
        return "compare"
    return known or "other"


def instruction_mix(counts: ExecutionCounts) -> InstructionMix:
    """The mix of a snapshot."""
    info = InstructionInfoFactory()
    classes: dict[str, list[int]] = {}
    mnemonics: dict[str, list[int]] = {}
    loads = stores = locked = 0
    for item, times in counts.instructions.items():
        instruction = item.decode()
        for table, name in ((classes, instruction_class(instruction)), (mnemonics, _NAMES[instruction.mnemonic])):
            row = table.setdefault(name, [0, 0])
            row[0] += times
            row[1] += times if item.user else 0
        memory = [use.access for use in info.info(instruction).used_memory()]
        loads += times * (not _READS.isdisjoint(memory))
        stores += times * (not _WRITES.isdisjoint(memory))
        exchanges = instruction.mnemonic in _SYNCHRONISING and bool(memory)
        locked += times * (instruction.has_lock_prefix or exchanges)
    return InstructionMix(
        counts.total, counts.user_total, _ranked(classes), _ranked(mnemonics), loads, stores, locked
    )


def _ranked(table: dict[str, list[int]]) -> tuple[MixRow, ...]:
    rows = [MixRow(name, times, user) for name, (times, user) in table.items()]
    return tuple(sorted(rows, key=lambda row: (-row.times, row.name)))


__all__ = ["InstructionMix", "MixRow", "instruction_class", "instruction_mix"]
