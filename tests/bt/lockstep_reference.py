"""The reference: a plain Unicorn with the same CPU model, the program's own page tables and nothing of ours.

A code hook sees the state in front of every instruction; the iterations of a repeated string instruction are one.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import replace
from typing import Any, Final

import lockstep_layout as layout
from iced_x86 import Decoder, FlowControl, Instruction, Mnemonic, Register, RflagsBits
from lockstep_state import GPR_NAMES, RF, WITH_ERROR_CODE, Fault, Outcome, Program, Registers, compared
from unicorn import UC_ARCH_X86, UC_ERR_INSN_INVALID, UC_HOOK_CODE, UC_HOOK_INTR, UC_MODE_64, UC_PROT_ALL, Uc, UcError
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from dbgvmm.hardware.context import ContextView
from dbgvmm.hardware.layout import is_canonical

_EFER: Final = 0xC000_0080
_FS_BASE, _GS_BASE = 0xC000_0100, 0xC000_0101
CR0: Final = 0x8001_0033
CR4: Final = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10
EFER: Final = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11
_STATE: Final = [getattr(x86, f"UC_X86_REG_{name.upper()}") for name in (*GPR_NAMES, "rip", "rflags")]
_VECTORS: Final = {
    **{f"st{n}": (x86.UC_X86_REG_ST0 + n, 10) for n in range(8)},
    **{f"xmm{n}": (x86.UC_X86_REG_XMM0 + n, 16) for n in range(16)},
    "fctrl": (x86.UC_X86_REG_FPCW, 2), "fstat": (x86.UC_X86_REG_FPSW, 2), "ftag": (x86.UC_X86_REG_FPTAG, 2),
    "mxcsr": (x86.UC_X86_REG_MXCSR, 4),
}  # fmt: skip

_RFLAGS: Final = (
    (RflagsBits.OF, 0x800), (RflagsBits.SF, 0x80), (RflagsBits.ZF, 0x40), (RflagsBits.AF, 0x10), (RflagsBits.CF, 0x01),
    (RflagsBits.PF, 0x04),
)  # fmt: skip
SENSITIVE: Final = frozenset(
    getattr(Mnemonic, name)
    for name in (
        "HLT LGDT LIDT SGDT SIDT LLDT SLDT LTR STR SMSW LMSW CLTS INVLPG INVPCID INVD WBINVD WBNOINVD WRMSR RDMSR RDTSC "
        "RDTSCP RDPMC CPUID IN OUT INSB INSW INSD OUTSB OUTSW OUTSD SWAPGS LAR LSL VERR VERW LFS LGS LSS STAC CLAC "
        "XGETBV XSETBV MONITOR MWAIT RDRAND RDSEED RDPID RDFSBASE RDGSBASE WRFSBASE WRGSBASE XABORT XTEST RDPKRU WRPKRU "
        "SYSCALL SYSENTER SYSRET SYSRETQ SYSEXIT SYSEXITQ INT INT1 INT3 INTO RETF IRET IRETD"
    ).split()
)
"""These depend on more than the lockstep world has; the monitor carries them out, and they have tests of their own."""
_STORING: Final = frozenset((FlowControl.NEXT, FlowControl.CALL, FlowControl.INDIRECT_CALL))
_BIT_TESTS: Final = frozenset((Mnemonic.BT, Mnemonic.BTS, Mnemonic.BTR, Mnemonic.BTC))


def flags_read(instruction: Instruction) -> int:
    """The arithmetic flags that an instruction reads, as in RFLAGS."""
    return _as_rflags(instruction.rflags_read)


def is_repeated(instruction: Instruction) -> bool:
    """Whether it is a string instruction with a repeat prefix."""
    return instruction.is_string_instruction and (instruction.has_rep_prefix or instruction.has_repne_prefix)


def undefined_after(instruction: Instruction, before: int) -> int:
    """Which flags are undefined behind `instruction`.

    Nearly always the engine leaves something definite in an undefined flag. After BT, BTS, BTR and BTC it depends on
    how the flags were kept before, and with that on hooks, faults and where a unit ends.
    """
    by_cl = any(instruction.op_register(n) == Register.CL for n in range(1, instruction.op_count))
    perhaps = is_repeated(instruction) or by_cl  # with a count of 0 it modifies nothing
    after = before if perhaps else before & ~_as_rflags(instruction.rflags_modified)
    return after | _as_rflags(instruction.rflags_undefined) if instruction.mnemonic in _BIT_TESTS else after


def _as_rflags(bits: int) -> int:
    return sum(flag for bit, flag in _RFLAGS if bits & bit)


class Reference:
    """One run of one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._memory = (ctypes.c_ubyte * layout.RAM_SIZE).from_buffer(program.image())
        self._fault: Fault | None = None
        # Where `emu_start` ends must be mapped: it looks the page up, and a fault there would be the CPU's first.
        self._until = program.base + layout.CODE_PAGES * layout.PAGE - 1
        self._uc = uc = Uc(UC_ARCH_X86, UC_MODE_64)
        uc.ctl_set_cpu_model(x86.UC_CPU_X86_ICELAKE_SERVER)
        uc.mem_map_ptr(0, layout.RAM_SIZE, UC_PROT_ALL, ctypes.c_void_p(ctypes.addressof(self._memory)))
        uc.hook_add(UC_HOOK_INTR, self._on_interrupt)
        uc.msr_write(_EFER, EFER)
        uc.reg_write(x86.UC_X86_REG_CR4, CR4)
        uc.reg_write(x86.UC_X86_REG_CR3, layout.ROOT)
        uc.reg_write(x86.UC_X86_REG_CR0, CR0)
        self._context = ContextView(uc)  # for what Unicorn's interface does not have: the error code, and this:
        self._enter()
        self._forget_exception()

    def _on_interrupt(self, uc: Uc, vector: int, _data: Any) -> None:
        if self._fault is None:
            error_code = self._error_code() if vector in WITH_ERROR_CODE else None
            self._fault = Fault(vector, error_code, uc.reg_read(x86.UC_X86_REG_CR2) if vector == 14 else None)
        uc.emu_stop()

    def _forget_exception(self) -> None:
        """Have the CPU not think that it is delivering an exception, or the first contributory one becomes #DF."""
        context = self._context
        uclib.uc_context_save(self._uc._uch, context.pointer)
        context.s[context.old_exception_d] = -1
        uclib.uc_context_restore(self._uc._uch, context.pointer)

    def _enter(self) -> None:
        """`iretq` to the program's first instruction at its CPL."""
        uc, program = self._uc, self.program
        uc.reg_write(x86.UC_X86_REG_GDTR, (0, layout.SYSTEM + layout.GDT, layout.GDT_LIMIT, 0))
        uc.msr_write(_FS_BASE, program.fs_base)
        uc.msr_write(_GS_BASE, program.gs_base)
        gpr = program.registers()
        user = program.cpl == 3
        frame = struct.pack(
            "<5Q", program.start, layout.USER_CODE if user else layout.KERNEL_CODE, program.rflags, gpr[4],
            layout.USER_DATA if user else layout.KERNEL_DATA,
        )  # fmt: skip
        self._memory[layout.ENTRY_FRAME : layout.ENTRY_FRAME + len(frame)] = frame
        for name, value in zip(GPR_NAMES, gpr, strict=True):
            uc.reg_write(getattr(x86, f"UC_X86_REG_{name.upper()}"), value)
        uc.reg_write(x86.UC_X86_REG_RSP, layout.SYSTEM + layout.ENTRY_FRAME)
        for name, data in program.vectors().items():
            uclib.uc_reg_write(uc._uch, _VECTORS[name][0], (ctypes.c_ubyte * 16)(*data))
        uc.emu_start(layout.SYSTEM + layout.ENTRY_STUB, program.start)
        if self._fault is not None or uc.reg_read(x86.UC_X86_REG_RIP) != program.start:
            raise RuntimeError(f"the reference could not enter the program ({self._fault})")

    def _registers(self) -> Registers:
        *gpr, rip, rflags = self._uc.reg_read_batch(_STATE)
        return Registers(tuple(gpr), rip, rflags & ~RF)

    def _on_instruction(self, uc: Uc, address: int, _size: int, _data: Any) -> None:
        """In front of an instruction: note the state, stop where the program ends."""
        states, program = self._states, self.program
        instruction = self._instruction(address)
        registers = replace(self._registers(), undefined=self._undefined)
        if states and states[-1].rip == address:
            if is_repeated(instruction):
                return
            if self._starts_again(registers):
                uc.reg_write(x86.UC_X86_REG_RFLAGS, states[-1].rflags)  # lost, see `to_fault`
                return
        states.append(registers)
        beyond = instruction.mnemonic in SENSITIVE or flags_read(instruction) & self._undefined
        if address == program.end or len(states) > program.limit or beyond:
            self._ended = True
            uc.emu_stop()
        self._undefined = undefined_after(instruction, self._undefined)
        self._flow = instruction.flow_control

    def _instruction(self, rip: int) -> Instruction:
        """The instruction at `rip` as memory has it now; an invalid one outside the code pages."""
        offset = rip - self.program.base
        if not 0 <= offset < layout.CODE_PAGES * layout.PAGE:
            return Instruction()
        at, last = layout.CODE_FRAME + offset, layout.CODE_FRAME + layout.CODE_PAGES * layout.PAGE
        return Decoder(64, bytes(self._memory[at : min(at + 15, last)]), ip=rip).decode()

    def _starts_again(self, registers: Registers) -> bool:
        """Whether the engine runs the last instruction once more because it stored into the code around it."""
        last = self._states[-1]
        return registers.gpr == last.gpr and self._flow in _STORING

    def _start(self) -> Fault | None:
        try:
            self._uc.emu_start(self.program.start, self._until)
        except UcError as error:
            if error.errno != UC_ERR_INSN_INVALID:
                raise
            return Fault(6, None, None)
        return self._fault

    def trace(self) -> Outcome:
        """Run until the program's end, its limit, or a fault, with the state after each instruction."""
        self._states: list[Registers] = []
        self._ended = False
        self._undefined = 0
        self._flow = FlowControl.NEXT
        self._uc.hook_add(UC_HOOK_CODE, self._on_instruction)
        fault = self._start()
        if not (fault or self._ended):
            raise RuntimeError("the reference stopped for no reason")
        return self._outcome(self._states, self._registers() if fault else self._states[-1], fault)

    def to_fault(self, states: list[Registers]) -> Outcome:
        """Run a program that is known to fault, `states` before, without the hook.

        The engine gets the flags at a fault wrong where the instruction (or a hook in front of it) has already turned
        the operands of the last arithmetic instruction into flags. A fault leaves them alone, so they are known from
        the trace; only a repeated string instruction changes them and then faults.
        """
        fault = self._start()
        final = self._registers()
        if not states or states[-1].rip != final.rip:  # a fetch that failed had no hook
            states.append(final)
        elif is_repeated(self._instruction(final.rip)):
            final = replace(final, undefined=states[-1].undefined)
        else:
            final = replace(final, rflags=states[-1].rflags, undefined=states[-1].undefined)
        return self._outcome(states, final, fault)

    def _outcome(self, states: list[Registers], final: Registers, fault: Fault | None) -> Outcome:
        return Outcome(states, final, fault, self._vectors(), compared(memoryview(self._memory).cast("B")))

    def _error_code(self) -> int:
        context = self._context
        uclib.uc_context_save(self._uc._uch, context.pointer)
        return context.d[context.error_code_d]

    def _vectors(self) -> dict[str, bytes]:
        buffer = (ctypes.c_ubyte * 16)()
        found = {}
        for name, (number, size) in _VECTORS.items():
            uclib.uc_reg_read(self._uc._uch, number, buffer)
            found[name] = bytes(buffer)[:size]
        return found


def run(program: Program) -> Outcome:
    """What the bare engine does with the program."""
    outcome = Reference(program).trace()
    if outcome.fault is not None and not is_canonical(outcome.final.rip):
        # The engine takes a branch to nowhere and then faults; hardware faults at the branch. End in front of it.
        return Reference(replace(program, limit=len(outcome.states) - 1)).trace()
    return outcome if outcome.fault is None else Reference(program).to_fault(outcome.states)
