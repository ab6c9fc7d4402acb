"""A regression check of a kernel: are its page tables as safe as they are meant to be? `check_kernel.py [KERNEL]`.

It stops the guest where it has set them up, asks gdb for registers and the monitor for page walks, and lets it run to
its own verdict. Exit status 1 if anything is not as it should be.
"""

import sys
from pathlib import Path

from dbgvmm.gdb import GdbSession, SessionError

GUEST = Path(__file__).parent.parent / "guests" / "build" / "pagetables.elf"
WP, PG, NXE, LMA = 1 << 16, 1 << 31, 1 << 11, 1 << 10
PASSED = 1  # isa-debug-exit makes it of 0


def main(kernel: str = str(GUEST), ready: str = "test_mapping") -> int:
    try:
        with GdbSession.run(kernel, memory="64M") as gdb:
            gdb.break_at(ready)
            stop = gdb.continue_()
            registers = gdb.registers("cr0", "efer")
            code, stack = (gdb.monitor(f"translate {what}").splitlines()[-1] for what in ("kmain", "rsp"))
            checks = {
                "the guest gets that far": stop.frame is not None and stop.frame.function == ready,
                "CR0.WP: read-only holds for the kernel, too": registers["cr0"] & (WP | PG) == WP | PG,
                "EFER.NXE in 64-bit mode": registers["efer"] & (NXE | LMA) == NXE | LMA,
                "code cannot be written": "read-only, executable" in code,
                "the stack cannot be executed": "writable, no-execute" in stack,
            }
            gdb.delete()
            checks["the kernel's own checks pass"] = gdb.continue_().exit_code == PASSED
            verdict = gdb.serial_output().splitlines()[-1:]
    except SessionError as error:
        print(f"FAIL {error}", file=sys.stderr)
        return 1
    for name, good in checks.items():
        print("ok  " if good else "FAIL", name)
    print(*verdict)
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
