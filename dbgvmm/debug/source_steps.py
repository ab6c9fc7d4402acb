"""Steps from line to line of the source, over calls or into them, and out of a function.

A line's code is not stepped through: the guest runs to the places where it can leave that (branch targets, the code behind),
so a loop within a line costs nothing, and interrupts on the way run as a whole. Only what leads somewhere that cannot be read
from its bytes (returns, indirect jumps; calls, when they are to be gone into) is executed by itself. Where to stop is as gdb
has it: at the first instruction of another line, or anywhere in a line of a function that was returned to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from iced_x86 import Decoder, FlowControl, Instruction, Mnemonic, OpKind, Register

from dbgvmm.cpu.bits import GPR, MASK32, MASK64
from dbgvmm.cpu.state import Mode
from dbgvmm.debug.expressions import ExpressionCondition, Names, Values, parse
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.symbols.line_unit import SourceLine
from dbgvmm.debug.unwind import UnwindEnd
from dbgvmm.debug.unwind.methods import BY_TABLES
from dbgvmm.mmu.linear import NotMapped

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

STEPPED: Final = Stop(StopKind.STEP, "stepped")
RETURNED: Final = Stop(StopKind.STEP, "returned")
_MOST_ARGUMENTS: Final = 1 << 16
"""Bytes that a `ret N` can take off the stack beside the return address."""
_BITS: Final = {Mode.LONG64: 64, Mode.PROTECTED32: 32, Mode.COMPAT32: 32}
_NEAR_BRANCHES: Final = (OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64)
_BRANCHES: Final = (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH)
_CALLS: Final = (FlowControl.CALL, FlowControl.INDIRECT_CALL, FlowControl.INTERRUPT)
_ALONE: Final = (FlowControl.RETURN, FlowControl.INDIRECT_BRANCH, FlowControl.EXCEPTION)


class Run(Protocol):
    """Runs the machine, as `Machine.run` does."""

    def __call__(self, *, steps: int | None = None) -> Stop: ...


class NoLine(LookupError):
    """No line of source is known of the code."""


@dataclass(frozen=True)
class _Plan:
    """The ways out of a line's code. code: its instructions by address. alone: those that are to be executed singly."""

    code: dict[int, Instruction]
    exits: frozenset[int]
    alone: frozenset[int]


class SourceSteps:
    """Steps of a machine. run: who runs it, so that a front end can look after things meanwhile.

    All return the stop that a person is to see: kind STEP if the step was finished, else what has stopped the guest on the way.
    """

    def __init__(self, machine: Machine, run: Run) -> None:
        self._machine = machine
        self._run = run
        self._names = Names(machine.symbols, Values())

    # -- steps

    def over_line(self) -> Stop:
        """To another line, calls as a whole. Raises NoLine."""
        return self._leave_line(into=False)

    def into_line(self) -> Stop:
        """To another line, into functions of which lines are known. Raises NoLine."""
        return self._leave_line(into=True)

    def finish(self, level: int = 0) -> Stop:
        """Out of the function that the CPU stands in, or of that of an outer frame. Raises UnwindEnd if it is not known where
        that leads to."""
        machine = self._machine
        caller = machine.unwinder.returns_to(level=level)
        if caller.exact:
            there = f"$rsp == {caller.sp:#x}"
        else:
            there = f"$rsp >= {caller.sp:#x} && $rsp <= {caller.sp + _MOST_ARGUMENTS & MASK64:#x}"
        return self._told(self.run_to((caller.pc,), self._condition(there)), RETURNED)

    def run_over(self, instruction_end: int) -> Stop:
        """Run to the instruction behind one (a call, `int`, a repeated one): in the same frame, not in a deeper one.

        Returns STEPPED when it is there.
        """
        stack = self._machine.cpu.gpr[GPR.RSP]
        return self.run_to((instruction_end,), self._condition(f"$rsp >= {stack:#x}"))

    def run_to(self, addresses: Collection[int], condition: Callable[[], bool] | None = None) -> Stop:
        """Run until the guest is in front of one of these where the condition holds; STEPPED then."""
        machine = self._machine
        with ExitStack() as stack:
            for address in sorted(addresses):
                machine.breakpoints.add(address, condition)
                stack.callback(machine.breakpoints.remove, address, condition)
            stop = self._run()
        if stop.kind is StopKind.BREAKPOINT and machine.cpu.rip in addresses and machine.numbered.stopped() is None:
            return STEPPED
        return stop

    def one(self) -> Stop:
        """Execute one instruction; a breakpoint behind it is told as such."""
        machine = self._machine
        stop = self._run(steps=1)
        rip = machine.cpu.rip
        if stop.kind is StopKind.STEP and rip in machine.breakpoints and machine.breakpoints.stops_at(rip):
            return Stop(StopKind.BREAKPOINT, f"breakpoint at {rip:#x}", address=rip)
        return STEPPED if stop.kind is StopKind.STEP else stop

    # -- by lines

    def _leave_line(self, *, into: bool) -> Stop:
        machine = self._machine
        cpu = machine.cpu
        origin = here = self._line(cpu.rip)
        if origin is None or here is None:
            raise NoLine(f"no line is known of {cpu.rip:#x}")
        frame = self._frame()
        while True:
            plan = self._plan(here, into)
            single = plan.code.get(cpu.rip) if cpu.rip in plan.alone else None
            stack = cpu.gpr[GPR.RSP]
            if single is not None or cpu.rip not in plan.code:
                stop = self.one()
            else:
                stop = self.run_to(plan.exits | plan.alone, lambda: not self._is_other(frame))
            if stop is not STEPPED:
                return self._told(stop, STEPPED)
            if single is not None and single.flow_control in _CALLS and cpu.rip != single.next_ip:
                if self._line(cpu.rip) is not None:
                    return self._told(self._behind_prologue(), STEPPED)
                stop = self.run_to((single.next_ip,), self._condition(f"$rsp >= {stack:#x}"))
                if stop is not STEPPED:
                    return self._told(stop, STEPPED)
            now = self._line(cpu.rip)
            if now is None:
                return self._told(self._out_of_tail_call() if self._tail_called() else STEPPED, STEPPED)
            here = now
            if (now.path, now.line) == (origin.path, origin.line):
                continue
            returned = single is not None and single.flow_control == FlowControl.RETURN
            if (now.statement and cpu.rip == now.start) or returned or self._is_other(frame):
                return self._told(STEPPED, STEPPED)

    def _told(self, stop: Stop, finished: Stop) -> Stop:
        """What `last_stop` is: the temporary breakpoints are nobody's business."""
        if stop is STEPPED:
            self._machine.last_stop = stop = finished
        return stop

    def _behind_prologue(self) -> Stop:
        """A function was entered: go to where its frame and its arguments are in place."""
        machine = self._machine
        first = self._line(machine.cpu.rip)
        found = machine.symbols.at(machine.cpu.rip)
        if first is None or found is None or found[1] or first.end >= found[0].end:
            return STEPPED
        code = self._decoded(first.start, first.end)
        if machine.cpu.rip != first.start or not all(map(_is_prologue, code)):
            return STEPPED
        return self.run_to((first.end,))

    def _tail_called(self) -> bool:
        """Whether the CPU stands at the beginning of a function."""
        found = self._machine.symbols.at(self._machine.cpu.rip)
        return found is not None and not found[1]

    def _out_of_tail_call(self) -> Stop:
        """A function without lines was jumped to: it returns to the caller of the one that did."""
        try:
            stop = self.finish()
        except UnwindEnd:
            return STEPPED
        return STEPPED if stop is RETURNED else stop

    # -- where it is

    def _line(self, address: int) -> SourceLine | None:
        return self._machine.symbols.source_line(address, statement=True)

    def _frame(self) -> int | None:
        """The CFA of the frame that the CPU stands in, if that is known for certain."""
        machine = self._machine
        try:
            caller = machine.unwinder.returns_to(BY_TABLES)
        except UnwindEnd:
            return None
        return caller.sp

    def _is_other(self, frame: int | None) -> bool:
        """Whether the CPU stands in another frame for certain."""
        return frame is not None and self._frame() not in (frame, None)

    def _condition(self, text: str) -> ExpressionCondition:
        return ExpressionCondition(text, parse(text, self._names), self._machine, Values())

    def _plan(self, line: SourceLine, into: bool) -> _Plan:
        code: dict[int, Instruction] = {}
        exits = {line.end}
        alone: set[int] = set()
        for instruction in self._decoded(line.start, line.end):
            at = instruction.ip
            code[at] = instruction
            flow = instruction.flow_control
            if flow in _BRANCHES and instruction.op0_kind in _NEAR_BRANCHES:
                target = instruction.near_branch_target
                if not line.start <= target < line.end:
                    exits.add(target)
            elif flow in _ALONE or flow in _BRANCHES or (into and flow in _CALLS):
                alone.add(at)
        return _Plan(code, frozenset(exits), frozenset(alone))

    def _decoded(self, start: int, end: int) -> list[Instruction]:
        """The instructions from `start` up to `end`, as far as they are mapped."""
        machine = self._machine
        cpu = machine.cpu
        linear = start if cpu.in_64bit_code else start + cpu.segs[1].base & MASK32
        try:
            data = machine.memory.peek_some(linear, end - start)
        except NotMapped:
            return []
        found: list[Instruction] = []
        for instruction in Decoder(_BITS.get(cpu.mode, 16), data, ip=start):
            if instruction.is_invalid:
                break
            found.append(instruction)
        return found


def _is_prologue(instruction: Instruction) -> bool:
    """Whether it makes room on the stack or saves a register there: `push`, `sub rsp`, `mov rbp, rsp`, `mov [rbp-8], rdi`."""
    stack = (Register.RSP, Register.RBP, Register.ESP, Register.EBP)
    match instruction.mnemonic:
        case Mnemonic.PUSH | Mnemonic.ENDBR64 | Mnemonic.ENDBR32:
            return True
        case Mnemonic.SUB | Mnemonic.AND:
            return instruction.op0_register in stack
        case Mnemonic.MOV:
            return instruction.op0_register in stack or (
                instruction.op0_kind == OpKind.MEMORY and instruction.memory_base in stack
            )
        case _:
            return False
