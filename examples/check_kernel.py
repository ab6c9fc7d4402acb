"""A regression check of a kernel: are its page tables as safe as they are meant to be? `check_kernel.py [KERNEL]`.

Registers by gdb, page walks by the monitor, then the guest's own verdict. Exit status 1 if anything is wrong.
"""

import sys
from pathlib import Path

from dbgvmm.gdb import GdbSession, SessionError

GUEST = Path(__file__).parent.parent / "guests" / "build" / "pagetables.elf"
WP, PG, NXE, LMA = 1 << 16, 1 << 31, 1 << 11, 1 << 10


def main(kernel: str = str(GUEST), ready: str = "test_mapping") -> int:
    try:
        with GdbSession.run(kernel, memory="64M") as gdb:
            gdb.break_at(ready, temporary=True)
            frame = gdb.continue_().frame
            registers = gdb.registers("cr0", "efer")
            code, stack = (gdb.monitor(f"translate {what}").splitlines()[-1] for what in ("kmain", "rsp"))
            checks = {
                "the guest gets that far": frame is not None and frame.function == ready,
                "CR0.WP: read-only holds for the kernel, too": registers["cr0"] & (WP | PG) == WP | PG,
                "EFER.NXE in 64-bit mode": registers["efer"] & (NXE | LMA) == NXE | LMA,
                "code cannot be written": "read-only, executable" in code,
                "the stack cannot be executed": "writable, no-execute" in stack,
            }
            checks["the kernel's own checks pass"] = gdb.continue_().exit_code == 1  # isa-debug-exit makes it of 0
    except SessionError as error:
        print(f"FAIL {error}", file=sys.stderr)
        return 1
    for name, good in checks.items():
        print("ok  " if good else "FAIL", name)
    print(*gdb.serial_output().splitlines()[-1:])
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
