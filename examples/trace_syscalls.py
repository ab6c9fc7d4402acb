"""All system calls of a Linux guest with their arguments and results, one kind or all.

dbgvmm run vmlinuz --initrd initramfs.cpio --append "console=ttyS0" --script examples/trace_syscalls.py -- [SYSCALL...]

Names of calls and tasks are the guest's own, read in its memory. Of a system that dbgvmm does not know, they are numbers.
"""

import sys
from contextlib import suppress

from dbgvmm import Machine
from dbgvmm.debug.hits import SyscallHit, SyscallReturnHit
from dbgvmm.guest_os import GuestOsError
from dbgvmm.mmu.slices import NotMapped
from dbgvmm.profile.current_task import CurrentTask

TEXTS = {"execve": 0, "open": 0, "openat": 1, "access": 0, "stat": 0, "chdir": 0, "unlink": 0, "mkdir": 0, "readlink": 0}


def names_of_calls(machine: Machine) -> dict[int, str]:
    try:
        return machine.os.syscalls()
    except GuestOsError:
        return {}


def main(machine: Machine) -> None:
    wanted = set(sys.argv[1:])
    numbers = sorted(int(word) for word in wanted if word.isdigit())
    current = CurrentTask(machine.os_finder, machine.cpu)
    names: dict[int, str] = {}

    def chosen(hit: SyscallHit) -> bool:
        """The first call is made by a kernel that is up: from there on its names are known."""
        if not names:
            names.update(names_of_calls(machine) or {hit.number: str(hit.number)})
            unknown = [word for word in wanted if word not in names.values() and not word.isdigit()]
            if unknown:
                sys.exit(f"no such system call: {', '.join(sorted(unknown))}")
        return not wanted or str(hit.number) in wanted or names.get(hit.number) in wanted

    def describe(hit: SyscallHit) -> str:
        name = names.get(hit.number, f"syscall_{hit.number}")
        words = [f"{argument:#x}" for argument in hit.arguments]
        if name in TEXTS:
            with suppress(NotMapped):  # not touched yet: the kernel will fault it in
                words[TEXTS[name]] = repr(machine.memory.cstring(hit.arguments[TEXTS[name]]))
        task = current()
        who = f"{hit.call.cr3:#x}" if task is None else f"{task[1]}[{task[0]}]"
        return f"{who} {name}({', '.join(words)})"

    only = numbers if len(numbers) == len(wanted) else []  # names have no numbers yet

    @machine.on_syscall(*only)
    def entered(hit: SyscallHit) -> None:
        if chosen(hit):
            print(f"{hit.count:,}: {describe(hit)}")

    @machine.on_syscall_return(*only)
    def returned(hit: SyscallReturnHit) -> None:
        if chosen(hit):
            print(f"{hit.count:,}: {describe(hit)} = {hit.result}")
