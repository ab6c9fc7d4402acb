"""Page faults of the guest by address space (CR3) and kind. Prints at the guest's end.

dbgvmm run guests/build/pagetables.elf --script examples/count_page_faults.py
"""

from collections import Counter, defaultdict

from dbgvmm import Machine
from dbgvmm.cpu.bits import PageFaultError, Vector
from dbgvmm.debug.hits import ExceptionHit


def main(machine: Machine) -> None:
    faults: defaultdict[int, Counter[str]] = defaultdict(Counter)

    @machine.on_exception(Vector.PF)
    def fault(hit: ExceptionHit) -> None:
        error = hit.error_code or 0
        access = "fetch" if error & PageFaultError.I else "write" if error & PageFaultError.W else "read"
        why = "protection" if error & PageFaultError.P else "not present"
        who = "user" if error & PageFaultError.U else "kernel"
        faults[machine.registers.cr3 & ~0xFFF][f"{who} {access}, {why}"] += 1

    machine.run()
    for cr3, kinds in sorted(faults.items(), key=lambda item: -item[1].total()):
        print(f"CR3 {cr3:#x}: {kinds.total():,} page faults")
        for kind, times in kinds.most_common():
            print(f"    {times:8,} {kind}")
    print(f"{fault.calls:,} page faults in {len(faults)} address spaces")
