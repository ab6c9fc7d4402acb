"""Page faults of the guest by task (by address space, where none is known) and kind. Prints at the guest's end.

dbgvmm run guests/build/pagetables.elf --script examples/count_page_faults.py
"""

from collections import Counter, defaultdict

from dbgvmm import Machine
from dbgvmm.cpu.bits import PageFaultError, Vector
from dbgvmm.debug.hits import ExceptionHit
from dbgvmm.profile.current_task import CurrentTask


def main(machine: Machine) -> None:
    faults: defaultdict[str, Counter[str]] = defaultdict(Counter)
    current = CurrentTask(machine.os_finder, machine.cpu)

    @machine.on_exception(Vector.PF)
    def fault(hit: ExceptionHit) -> None:
        error = hit.error_code or 0
        access = "fetch" if error & PageFaultError.I else "write" if error & PageFaultError.W else "read"
        why = "protection" if error & PageFaultError.P else "not present"
        who = "user" if error & PageFaultError.U else "kernel"
        task = current()
        where = f"CR3 {machine.registers.cr3 & ~0xFFF:#x}" if task is None else f"{task[1]}, process {task[0]}"
        faults[where][f"{who} {access}, {why}"] += 1

    machine.run()
    for where, kinds in sorted(faults.items(), key=lambda item: -item[1].total()):
        print(f"{where}: {kinds.total():,} page faults")
        for kind, times in kinds.most_common():
            print(f"    {times:8,} {kind}")
    print(f"{fault.calls:,} page faults in {len(faults)} address spaces or tasks")
