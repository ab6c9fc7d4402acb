"""A function must never be entered with interrupts on: the run ends with status 65 where it is, and says who called.

dbgvmm run guests/build/selftest.elf --script examples/assert_interrupts_off.py -- tick
"""

import sys

from dbgvmm import Machine
from dbgvmm.debug.hits import BreakpointHit
from dbgvmm.debug.symbols.known import UnknownSymbol


def main(machine: Machine) -> None:
    if len(sys.argv) < 2:
        sys.exit("which function? -- NAME...")
    for name in sys.argv[1:]:
        try:
            decorate = machine.on_breakpoint(name)
        except UnknownSymbol as error:
            sys.exit(str(error))

        @decorate
        def entered(hit: BreakpointHit, name: str = name) -> None:
            caller = machine.memory.u64[machine.registers.rsp]
            assert not machine.registers.eflags.IF, (
                f"{name} entered with interrupts on, after {hit.count:,} instructions, called from "
                f"{machine.symbols.describe(caller) or hex(caller)}"
            )
