"""Runs a guest of ours on bare Unicorn: `python bench/plain_unicorn.py GUEST.elf64 [--separate] [--count-blocks]`.

What a person gets who loads a kernel's 64-bit part into Unicorn and starts it: flat memory, no paging of the guest's,
no interrupts, no instruction count, no debugger; IN and OUT are hooked for the serial line and for the exit port. It is
the yardstick for what the monitor costs, and what it gives back.

Memory is writable and executable throughout, as one mapping; with --separate, pages have the rights that the ELF file
asks for where it asks for fewer (text without W, data without X). With --count-blocks, a hook in Python counts how often each
basic block runs (by Unicorn's idea of one).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from unicorn import (
    UC_ARCH_X86,
    UC_HOOK_BLOCK,
    UC_HOOK_INSN,
    UC_MODE_64,
    UC_PROT_ALL,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
    Uc,
)
from unicorn import x86_const as x86

ENTRY: Final = "kernel_entry"
"""Where the guests' boot code jumps to once it is in long mode (guests/lib/boot.S); it sets its own stack."""
MEMORY: Final = 64 << 20
PAGE: Final = 0x1000
UART_DATA: Final = 0x3F8
UART_LSR: Final = 0x3FD
LSR_IDLE: Final = 0x60
EXIT_PORT: Final = 0xF4
PASSED: Final = 0
"""What a guest writes to the exit port when all its checks held."""


class PlainMachine:
    """Flat memory, a CPU in 64-bit mode, a serial line and an exit port."""

    def __init__(self, path: Path, *, separate: bool, count_blocks: bool = False) -> None:
        self.exit_code: int | None = None
        self.uc: Any = Uc(UC_ARCH_X86, UC_MODE_64)
        self.uc.mem_map(0, MEMORY, UC_PROT_ALL)
        with path.open("rb") as file:
            elf = ELFFile(file)
            for segment in elf.iter_segments("PT_LOAD"):
                self.uc.mem_write(segment["p_vaddr"], segment.data())
            if separate:
                self._separate(elf)
            self.entry = _address_of(elf, ENTRY)
        self.uc.hook_add(UC_HOOK_INSN, self._read_port, None, 1, 0, x86.UC_X86_INS_IN)
        self.uc.hook_add(UC_HOOK_INSN, self._write_port, None, 1, 0, x86.UC_X86_INS_OUT)
        self.blocks: dict[tuple[int, int], int] = {}
        if count_blocks:
            self.uc.hook_add(UC_HOOK_BLOCK, self._on_block)

    def _separate(self, elf: ELFFile) -> None:
        """Code from the first segment only, which is not written to; data everywhere else."""
        text = next(elf.iter_segments("PT_LOAD"))
        start = text["p_vaddr"] & -PAGE
        end = -(-(text["p_vaddr"] + text["p_memsz"]) // PAGE) * PAGE
        self.uc.mem_protect(0, MEMORY, UC_PROT_READ | UC_PROT_WRITE)
        # The guests' boot page tables are in the text segment too, but from `kernel_entry` on nobody writes to them.
        self.uc.mem_protect(start, end - start, UC_PROT_READ | UC_PROT_EXEC)

    def run(self) -> None:
        """Run until the guest leaves through the exit port."""
        self.uc.reg_write(x86.UC_X86_REG_RSP, MEMORY - 16)
        self.uc.emu_start(self.entry, MEMORY)

    def _on_block(self, uc: Any, address: int, size: int, user: object) -> None:
        block = address, size
        self.blocks[block] = self.blocks.get(block, 0) + 1

    def _read_port(self, uc: Any, port: int, size: int, user: object) -> int:
        return LSR_IDLE if port == UART_LSR else 0

    def _write_port(self, uc: Any, port: int, size: int, value: int, user: object) -> None:
        if port == UART_DATA:
            sys.stdout.write(chr(value & 0xFF))
        elif port == EXIT_PORT:
            self.exit_code = value
            uc.emu_stop()


def _address_of(elf: ELFFile, name: str) -> int:
    symbols = elf.get_section_by_name(".symtab")
    found = symbols.get_symbol_by_name(name) if isinstance(symbols, SymbolTableSection) else None
    if not found:
        sys.exit(f"plain_unicorn: no symbol {name}: give the .elf64 of a guest, not its .elf")
    address: int = found[0]["st_value"]
    return address


def main() -> int:
    """The command line; the exit status is 0 if the guest's checks held."""
    parser = argparse.ArgumentParser(description="Run a guest's 64-bit part on bare Unicorn.")
    parser.add_argument("guest", type=Path, help="an .elf64 of guests/build that is linked at 1 MiB")
    parser.add_argument("--separate", action="store_true", help="text is not writable, data is not executable")
    parser.add_argument("--count-blocks", action="store_true", help="count executions of basic blocks in a hook")
    options = parser.parse_args()
    machine = PlainMachine(options.guest, separate=options.separate, count_blocks=options.count_blocks)
    machine.run()
    if options.count_blocks:
        print(f"{sum(machine.blocks.values()):,} executions of {len(machine.blocks):,} blocks")
    sys.stdout.flush()
    return 0 if machine.exit_code == PASSED else 1


if __name__ == "__main__":
    sys.exit(main())
