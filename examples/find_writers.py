"""Who writes a variable, how often, and what: without gdb. Prints at the guest's end.

dbgvmm run guests/build/selftest.elf --script examples/find_writers.py -- tick_page [BYTES]
"""

import sys
from collections import Counter

from dbgvmm import Machine
from dbgvmm.debug.hits import MemoryHit
from dbgvmm.debug.symbols.known import UnknownSymbol


def main(machine: Machine) -> None:
    variable, size, *_ = (*sys.argv[1:], "tick_page", "8") if len(sys.argv) < 2 else (*sys.argv[1:], "8")
    writes: Counter[str] = Counter()
    last: dict[str, str] = {}
    try:
        decorate = machine.on_watch(variable, int(size))
    except (UnknownSymbol, ValueError) as error:
        sys.exit(str(error))

    @decorate
    def written(hit: MemoryHit) -> None:
        writes[hit.place] += 1
        last[hit.place] = f"last {hit.value:#x} after {hit.count:,} instructions"

    stop = machine.run()
    for place, times in writes.most_common():
        print(f"{times:6} {place}   {last[place]}")
    print(f"{written.calls:6} writes of {variable} until {stop.text}")
