"""All system calls of a Linux guest with their arguments and results, one process or all.

dbgvmm run vmlinuz --initrd initramfs.cpio --append "console=ttyS0" --script examples/trace_syscalls.py -- [SYSCALL...]
"""

import re
import sys
from contextlib import suppress
from pathlib import Path

from dbgvmm import Machine
from dbgvmm.debug.hits import SyscallHit, SyscallReturnHit
from dbgvmm.mmu.slices import NotMapped

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")  # numbers mean the same in every kernel
TEXTS = {"execve": 0, "open": 0, "openat": 1, "access": 0, "stat": 0, "chdir": 0, "unlink": 0, "mkdir": 0, "readlink": 0}


def names_of_calls() -> dict[int, str]:
    text = HEADER.read_text() if HEADER.exists() else ""
    return {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


def main(machine: Machine) -> None:
    names = names_of_calls()
    unknown = [word for word in sys.argv[1:] if word not in names.values() and not word.isdigit()]
    if unknown:
        sys.exit(f"no such system call: {', '.join(unknown)}")
    wanted = [number for number, name in names.items() if name in sys.argv[1:]]
    wanted += [int(word) for word in sys.argv[1:] if word.isdigit()]

    def describe(hit: SyscallHit) -> str:
        name = names.get(hit.number, f"syscall_{hit.number}")
        words = [f"{argument:#x}" for argument in hit.arguments]
        if name in TEXTS:
            with suppress(NotMapped):  # not touched yet: the kernel will fault it in
                words[TEXTS[name]] = repr(machine.memory.cstring(hit.arguments[TEXTS[name]]))
        return f"{hit.call.cr3:#x} {name}({', '.join(words)})"

    @machine.on_syscall(*wanted)
    def entered(hit: SyscallHit) -> None:
        print(f"{hit.count:,}: {describe(hit)}")

    @machine.on_syscall_return(*wanted)
    def returned(hit: SyscallReturnHit) -> None:
        print(f"{hit.count:,}: {describe(hit)} = {hit.result}")
