"""Agent bytecode to probes: conditions of gdb's breakpoints as machine code for the translation.

What cannot be compiled (backward jumps, trace state variables, registers that are not general ones) is evaluated by the
monitor, which costs an exit instead of nanoseconds and has the same result. The value on top of the bytecode's stack is in
RAX, the others are words of the data page: how high the stack is at each instruction is known (gdbstub/agent/program.py).

Source: GDB manual, "Agent Expressions" and "Bytecode Descriptions".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from iced_x86 import BlockEncoder, Code, Code_, Instruction, MemoryOperand, Register, Register_

from dbgvmm.bt.probes import Probe
from dbgvmm.bt.tcdata import GUEST_CR3, PROBE_RAX, PROBE_RBX, PROBE_RCX, PROBE_RDX, PROBE_STACK, PROBE_STACK_WORDS
from dbgvmm.debug.gdb_description import GDB_REGISTERS
from gdbstub.agent import Instruction as AgentInstruction
from gdbstub.agent import Op, Program

RAX, RCX, RDX, RBX = Register.RAX, Register.RCX, Register.RDX, Register.RBX
_ASIDE: Final = {
    "rax": PROBE_RAX, "rcx": PROBE_RCX, "rdx": PROBE_RDX, "rbx": PROBE_RBX, "cr3": GUEST_CR3,
}  # fmt: skip
_IN_PLACE: Final = {
    name: getattr(Register, name.upper())
    for name in ("rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))
}
_PLAIN: Final = {
    Op.ADD: Code.ADD_R64_RM64, Op.SUB: Code.SUB_R64_RM64, Op.MUL: Code.IMUL_R64_RM64,
    Op.BIT_AND: Code.AND_R64_RM64, Op.BIT_OR: Code.OR_R64_RM64, Op.BIT_XOR: Code.XOR_R64_RM64,
}  # fmt: skip
_COMPARISONS: Final = {Op.EQUAL: Code.SETE_RM8, Op.LESS_SIGNED: Code.SETL_RM8, Op.LESS_UNSIGNED: Code.SETB_RM8}
_SHIFTS: Final = {Op.LSH: Code.SHL_RM64_CL, Op.RSH_SIGNED: Code.SAR_RM64_CL, Op.RSH_UNSIGNED: Code.SHR_RM64_CL}
_LOADS: Final = {
    Op.REF8: (Code.MOVZX_R32_RM8, Register.EAX), Op.REF16: (Code.MOVZX_R32_RM16, Register.EAX),
    Op.REF32: (Code.MOV_R32_RM32, Register.EAX), Op.REF64: (Code.MOV_R64_RM64, Register.RAX),
}  # fmt: skip
_CONSTANTS: Final = frozenset((Op.CONST8, Op.CONST16, Op.CONST32, Op.CONST64))
_DIVISIONS: Final = frozenset((Op.DIV_SIGNED, Op.DIV_UNSIGNED, Op.REM_SIGNED, Op.REM_UNSIGNED))


class CannotCompile(Exception):
    """The program is to be evaluated by the monitor; the text says why."""


def compile_conditions(programs: Sequence[Program]) -> Probe | None:
    """A probe that leaves if one of the programs is not 0; None if they cannot be compiled."""
    try:
        bodies = [ProgramCompiler(program).compile() for program in programs]
        probe = Probe(bodies[0])
        for body in bodies[1:]:
            probe |= Probe(body)
    except (CannotCompile, ValueError):
        return None
    return probe


def _slot(index: int) -> MemoryOperand:
    return MemoryOperand(RBX, displ=PROBE_STACK + 8 * index, displ_size=8)


def _word(offset: int) -> MemoryOperand:
    return MemoryOperand(RBX, displ=offset, displ_size=8)


class ProgramCompiler:
    """Compiles one program. `height`: values on the bytecode's stack, of which the topmost is in RAX.

    The code is position-independent and ends at its end, the program's value in RAX.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._code: list[Instruction] = []
        self._height = 0
        self._heights: dict[int, int] = {}
        self._end = len(program.code) + 1
        """Label of the body's end. Labels are offsets of bytecode, plus 1 since BlockEncoder knows none of 0."""
        self._fresh = self._end + 1
        self._label = 0
        self._after_goto = False

    def compile(self) -> bytes:
        """The body. Raises CannotCompile."""
        for instruction in self._program.instructions:
            known = self._heights.get(instruction.offset)
            if known is not None:
                self._height = known
            elif self._code and self._after_goto:
                continue  # nothing comes here
            self._mark(instruction.offset + 1)
            self._after_goto = False
            self._one(instruction)
        self._mark(self._end)
        self.add(Instruction.create(Code.NOPD))
        encoder = BlockEncoder(64)
        encoder.add_many(self._code)
        return encoder.encode(0)

    # -- pieces

    def add(self, instruction: Instruction) -> None:
        if self._label:
            instruction.ip = self._label
            self._label = 0
        self._code.append(instruction)

    def _mark(self, label: int) -> None:
        """What is added next stands at `label`."""
        if self._label:
            self.add(Instruction.create(Code.NOPD))
        self._label = label

    def _new_label(self) -> int:
        self._fresh += 1
        return self._fresh

    def _branch(self, code: Code_, label: int) -> None:
        self.add(Instruction.create_branch(code, label))

    def _load(self, register: Register_, operand: MemoryOperand) -> None:
        self.add(Instruction.create_reg_mem(Code.MOV_R64_RM64, register, operand))

    def _move(self, to: Register_, source: Register_) -> None:
        self.add(Instruction.create_reg_reg(Code.MOV_R64_RM64, to, source))

    def _constant(self, value: int) -> None:
        if value < 1 << 32:
            self.add(Instruction.create_reg_u32(Code.MOV_R32_IMM32, Register.EAX, value))
        else:
            self.add(Instruction.create_reg_u64(Code.MOV_R64_IMM64, RAX, value))

    def _push(self) -> None:
        """Make RAX free for a new value on top."""
        if self._height > PROBE_STACK_WORDS:
            raise CannotCompile("too high a stack")
        if self._height:
            self.add(Instruction.create_mem_reg(Code.MOV_RM64_R64, _slot(self._height - 1), RAX))
        self._height += 1

    def _pop(self) -> None:
        """The topmost value is gone; the next one is in RAX."""
        self._height -= 1
        if self._height:
            self._load(RAX, _slot(self._height - 1))

    def _under(self, register: Register_, depth: int = 1) -> None:
        """The value `depth` below the top."""
        self._load(register, _slot(self._height - 1 - depth))

    def _pair(self) -> None:
        """The right operand into RCX, the left one into RAX, one value fewer."""
        self._move(RCX, RAX)
        self._pop()

    def _fail(self) -> None:
        """Leave: the monitor's evaluation says what is wrong."""
        self._constant(1)
        self._branch(Code.JMP_REL32_64, self._end)

    # -- opcodes

    def collect(self, length: int) -> None:
        """Keep `length` bytes from the address in RAX, which stays. Only tracepoints do (trace_compiler.py)."""
        raise CannotCompile("a condition collects nothing")

    def _one(self, instruction: AgentInstruction) -> None:
        op, operand = instruction.op, instruction.operand
        if op in _CONSTANTS:
            self._push()
            self._constant(operand)
        elif op in _LOADS:
            code, register = _LOADS[op]
            self.add(Instruction.create_reg_mem(code, register, MemoryOperand(RAX)))
        elif op in _PLAIN:
            self._pair()
            self.add(Instruction.create_reg_reg(_PLAIN[op], RAX, RCX))
        elif op in _COMPARISONS:
            self._pair()
            self.add(Instruction.create_reg_reg(Code.CMP_R64_RM64, RAX, RCX))
            self._truth(_COMPARISONS[op])
        elif op in _SHIFTS:
            self._shift(op)
        elif op in _DIVISIONS:
            self._divide(op)
        else:
            handler = _OTHERS.get(op)
            if handler is None:
                raise CannotCompile(f"{op.name.lower()} is not compiled")
            handler(self, instruction)

    def _truth(self, code: Code_) -> None:
        self.add(Instruction.create_reg(code, Register.AL))
        self.add(Instruction.create_reg_reg(Code.MOVZX_R32_RM8, Register.EAX, Register.AL))

    def _shift(self, op: Op) -> None:
        """By 64 and more, all bits are gone (the CPU would take the count modulo 64)."""
        self._pair()
        small, done = self._new_label(), self._new_label()
        self.add(Instruction.create_reg_i32(Code.CMP_RM64_IMM8, RCX, 63))
        self._branch(Code.JBE_REL32_64, small)
        if op is Op.RSH_SIGNED:
            self.add(Instruction.create_reg_u32(Code.SAR_RM64_IMM8, RAX, 63))
        else:
            self._constant(0)
        self._branch(Code.JMP_REL32_64, done)
        self._mark(small)
        self.add(Instruction.create_reg_reg(_SHIFTS[op], RAX, Register.CL))
        self._mark(done)

    def _divide(self, op: Op) -> None:
        """An overflow raises #DE here, and so leaves as any fault of a probe does."""
        self._pair()
        divides = self._new_label()
        self.add(Instruction.create_reg_reg(Code.TEST_RM64_R64, RCX, RCX))
        self._branch(Code.JNE_REL32_64, divides)
        self._fail()
        self._mark(divides)
        if op in (Op.DIV_SIGNED, Op.REM_SIGNED):
            self.add(Instruction.create(Code.CQO))
            self.add(Instruction.create_reg(Code.IDIV_RM64, RCX))
        else:
            self.add(Instruction.create_reg_reg(Code.XOR_R32_RM32, Register.EDX, Register.EDX))
            self.add(Instruction.create_reg(Code.DIV_RM64, RCX))
        if op in (Op.REM_SIGNED, Op.REM_UNSIGNED):
            self._move(RAX, RDX)

    def _register(self, instruction: AgentInstruction) -> None:
        number = instruction.operand
        name = GDB_REGISTERS[number].name if number < len(GDB_REGISTERS) else ""
        self._push()
        if name in _ASIDE:
            self._load(RAX, _word(_ASIDE[name]))
        elif name in _IN_PLACE:
            self._move(RAX, _IN_PLACE[name])
        else:
            raise CannotCompile(f"register {name or number} is not compiled")

    def _log_not(self, _: AgentInstruction) -> None:
        self.add(Instruction.create_reg_reg(Code.TEST_RM64_R64, RAX, RAX))
        self._truth(Code.SETE_RM8)

    def _bit_not(self, _: AgentInstruction) -> None:
        self.add(Instruction.create_reg(Code.NOT_RM64, RAX))

    def _extend(self, instruction: AgentInstruction) -> None:
        self._narrow(instruction, Code.SAR_RM64_IMM8)

    def _zero_extend(self, instruction: AgentInstruction) -> None:
        self._narrow(instruction, Code.SHR_RM64_IMM8)

    def _narrow(self, instruction: AgentInstruction, right: Code_) -> None:
        bits = instruction.operand
        if 0 < bits < 64:
            self.add(Instruction.create_reg_u32(Code.SHL_RM64_IMM8, RAX, 64 - bits))
            self.add(Instruction.create_reg_u32(right, RAX, 64 - bits))
        elif not bits and right == Code.SHR_RM64_IMM8:
            self._constant(0)

    def _dup(self, _: AgentInstruction) -> None:
        self._push()

    def _drop(self, _: AgentInstruction) -> None:
        self._pop()

    def _swap(self, _: AgentInstruction) -> None:
        below = _slot(self._height - 2)
        self.add(Instruction.create_mem_reg(Code.XCHG_RM64_R64, below, RAX))

    def _rotate(self, _: AgentInstruction) -> None:
        """a b c becomes c a b."""
        self._under(RCX, 1)
        self._under(RDX, 2)
        self.add(Instruction.create_mem_reg(Code.MOV_RM64_R64, _slot(self._height - 3), RAX))
        self.add(Instruction.create_mem_reg(Code.MOV_RM64_R64, _slot(self._height - 2), RDX))
        self._move(RAX, RCX)

    def _pick(self, instruction: AgentInstruction) -> None:
        self._push()
        if instruction.operand:
            self._load(RAX, _slot(self._height - 2 - instruction.operand))

    def _goto(self, instruction: AgentInstruction) -> None:
        self._forward(instruction)
        self._branch(Code.JMP_REL32_64, instruction.operand + 1)
        self._after_goto = True

    def _if_goto(self, instruction: AgentInstruction) -> None:
        self._move(RCX, RAX)
        self._pop()
        self._forward(instruction)
        self.add(Instruction.create_reg_reg(Code.TEST_RM64_R64, RCX, RCX))
        self._branch(Code.JNE_REL32_64, instruction.operand + 1)

    def _forward(self, instruction: AgentInstruction) -> None:
        if instruction.operand <= instruction.offset:
            raise CannotCompile("it may loop")
        self._heights[instruction.operand] = self._height

    def _trace_quick(self, instruction: AgentInstruction) -> None:
        self.collect(instruction.operand)

    def _trace(self, instruction: AgentInstruction) -> None:
        """Only of a constant length, which gdb writes right before it."""
        before = self._program.instructions[self._program.at[instruction.offset] - 1]
        if before.op not in _CONSTANTS or instruction.offset in self._heights:
            raise CannotCompile("the length is computed")
        self._pop()
        self.collect(before.operand)
        self._pop()

    def _finish(self, _: AgentInstruction) -> None:
        if not self._height:
            self._constant(0)
        self._branch(Code.JMP_REL32_64, self._end)
        self._after_goto = True


_C = ProgramCompiler
_OTHERS: Final[dict[Op, Callable[[ProgramCompiler, AgentInstruction], None]]] = {
    Op.REG: _C._register, Op.LOG_NOT: _C._log_not, Op.BIT_NOT: _C._bit_not, Op.EXT: _C._extend,
    Op.ZERO_EXT: _C._zero_extend, Op.DUP: _C._dup, Op.POP: _C._drop, Op.SWAP: _C._swap, Op.ROT: _C._rotate,
    Op.PICK: _C._pick, Op.GOTO: _C._goto, Op.IF_GOTO: _C._if_goto, Op.END: _C._finish, Op.TRACE: _C._trace,
    Op.TRACE_QUICK: _C._trace_quick, Op.TRACE16: _C._trace_quick,
}  # fmt: skip


__all__ = ["CannotCompile", "ProgramCompiler", "compile_conditions"]
