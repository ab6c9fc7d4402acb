"""All calls of a function with its arguments, without a stop: `trace_calls.py [KERNEL [FUNCTION [CONDITION]]]`.

The stub evaluates the condition and prints, so that a call costs no round trip to gdb.
"""

import sys
from collections import Counter
from pathlib import Path

from dbgvmm.gdb import GdbSession, SessionError

GUEST = Path(__file__).parent.parent / "guests" / "build" / "cpubound-small.elf"
ARGUMENTS = "$rdi", "$rsi", "$rdx"  # of the System V ABI: they hold at the first instruction, debug information or not
CALLER = "*(unsigned long *) $rsp"


def main(kernel: str = str(GUEST), function: str = "check_eq", condition: str = "") -> int:
    try:
        with GdbSession.run(kernel) as gdb:
            gdb.dprintf(f"*{function}", "call %#lx, %#lx, %#lx from %#lx\n", *ARGUMENTS, CALLER, condition=condition)
            stop = gdb.continue_()
            calls = [line.removeprefix("call ") for line in stop.output.splitlines() if line.startswith("call ")]
    except SessionError as error:
        print(f"{error} (the guests are built by `make -C guests`)", file=sys.stderr)
        return 2
    print(*(f"{function}: {call}" for call in calls), sep="\n")
    for caller, times in Counter(call.rpartition(" ")[2] for call in calls).most_common():
        print(f"{times} calls from {caller}")
    print(f"{len(calls)} calls of {function}" + (f" with {condition}" if condition else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
