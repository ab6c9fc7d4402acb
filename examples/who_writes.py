"""Who writes a variable? A watchpoint, and the stack of each writer: `who_writes.py [KERNEL [EXPRESSION]]`."""

import sys
from collections import Counter
from pathlib import Path

from dbgvmm.gdb import GdbSession, SessionError

GUEST = Path(__file__).parent.parent / "guests" / "build" / "selftest.elf"


def main(kernel: str = str(GUEST), expression: str = "tick_page.count", start: str = "kmain") -> int:
    writers: Counter[str] = Counter()
    values: dict[str, str] = {}
    try:
        with GdbSession.run(kernel) as gdb:
            gdb.break_at(start, temporary=True)
            gdb.continue_()
            gdb.watch(expression)
            while not (stop := gdb.continue_()).ended and stop.watched is not None:
                writer = " < ".join(frame.function or "?" for frame in gdb.backtrace(4))
                writers[writer] += 1
                values[writer] = f"last {stop.watched.old} -> {stop.watched.new}"
    except SessionError as error:
        print(f"{error} (the guests are built by `make -C guests`)", file=sys.stderr)
        return 2
    for writer, times in writers.most_common():
        print(f"{times:6} {writer}   {values[writer]}")
    print(f"{sum(writers.values()):6} writes of {expression}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
