"""Two machines in one process, in turn: does the guest do the same with either way of validating shadow page tables?

.venv/bin/python examples/compare_machines.py [KERNEL [INSTRUCTIONS]]
"""

import sys
from pathlib import Path

from dbgvmm import Machine, MachineConfig
from dbgvmm.boot.state import BootError
from dbgvmm.debug.stops import StopKind

GUEST = Path(__file__).parent.parent / "guests" / "build" / "pagetables.elf"


def main(kernel: str = str(GUEST), slice_length: str = "50000") -> int:
    machines = {how: Machine(MachineConfig(memory=64 << 20, validate=how)) for how in ("eager", "lazy")}
    try:
        for machine in machines.values():
            machine.boot(kernel)
    except BootError as error:
        print(f"{error} (the guests are built by `make -C guests`)", file=sys.stderr)
        return 2
    eager, lazy = machines.values()
    while True:
        stops = [machine.run(steps=int(slice_length)) for machine in machines.values()]
        if eager.cpu.save() != lazy.cpu.save() or stops[0] != stops[1]:
            print(f"they differ after {eager.count:,} and {lazy.count:,} instructions")
            return 1
        if stops[0].kind is not StopKind.STEP:
            break
    for how, machine in machines.items():
        figures = machine.stats()
        print(f"{how:6} {figures['hidden_faults']:,} hidden faults, {figures['trace_faults']:,} trace faults")
        machine.close()
    print(f"the same, {eager.count:,} instructions long: {stops[0].text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
