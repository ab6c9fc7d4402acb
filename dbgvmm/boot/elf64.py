"""A 64-bit ELF kernel entered straight in 64-bit mode, for kernels that speak no boot protocol at all.

The protocol is this project's own, and as short as it can be. When the first instruction at `e_entry` runs:

- Every PT_LOAD segment is at its physical address (`p_paddr`), the rest of it cleared.
- Paging is on. The first 4 GiB are mapped to themselves; the 2 GiB from 0xffffffff80000000 map to physical 0 and up.
  Everything is readable, writable and executable.
- CS is a 64-bit segment (selector 0x08), the others are flat data (0x10). The GDT, the page tables and the stack are in
  the first 640 KiB, which the memory map calls RAM: move or reserve them before giving that memory away. Nothing is
  ever put into page 0.
- RSP is the top of a stack of 64 KiB with a zero return address on it, aligned as the System V ABI has it at a
  function's entry: `e_entry` may be a C function.
- RDI is the address of a PVH `hvm_start_info` (version 1): the memory map, the command line, the initrd as a module.
- Interrupts are off; there is no IDT. The other general registers are 0.
"""

from __future__ import annotations

from dbgvmm.boot.elf_image import ElfImage
from dbgvmm.boot.layout import PAGE, Placement
from dbgvmm.boot.paging import HIGHER_HALF_BASE, HIGHER_HALF_SIZE, IDENTITY_END, build_tables
from dbgvmm.boot.request import BootRequest
from dbgvmm.boot.segments import code64, data32, flat_registers, gdt_bytes
from dbgvmm.boot.start_info import write_start_info
from dbgvmm.boot.state import BootError, BootState, CpuMode, Memory
from dbgvmm.cpu.bits import CR0, CR4, EFER

STACK_BYTES = 64 << 10
CODE_SELECTOR = 0x08
DATA_SELECTOR = 0x10


def load_elf64(request: BootRequest, memory: Memory, elf: ElfImage | None = None) -> BootState:
    """Loads a 64-bit ELF kernel. Raises BootError when it does not fit or its entry is not mapped to its bytes."""
    elf = elf or ElfImage(request.image)
    if elf.bits != 64:
        raise BootError("32-bit ELF file: only 64-bit ones can be entered without a boot protocol")
    _check_entry(elf)
    room = Placement(memory)
    elf.load(room)

    code, data = code64(CODE_SELECTOR), data32(DATA_SELECTOR)
    table = gdt_bytes([code, data])
    gdt = room.low(len(table), "GDT", align=8)
    memory.write(gdt, table)
    cr3 = build_tables(room, higher_half=True)
    stack = room.low(STACK_BYTES, "stack", align=PAGE)
    memory.write(stack, bytes(STACK_BYTES))
    info = write_start_info(room, request)
    return BootState(
        mode=CpuMode.LONG64,
        rip=elf.entry,
        gpr={"rdi": info, "rsp": stack + STACK_BYTES - 8},
        cr0=CR0.PE | CR0.ET | CR0.PG,
        cr3=cr3,
        cr4=CR4.PAE,
        efer=EFER.LME | EFER.LMA,
        segments=flat_registers(code, data),
        gdt_base=gdt,
        gdt_limit=len(table) - 1,
        entry_name=elf.symbol_at(elf.entry) or "_start",
        symbols_file=request.path if elf.has_symbols() else None,
        protocol="elf64",
    )


def _check_entry(elf: ElfImage) -> None:
    """The entry has to be a linear address that these page tables map to the bytes that the file has there."""
    for segment in elf.segments:
        if segment.holds(elf.entry):
            if _mapped_to(segment.virtual) != segment.physical:
                raise BootError(
                    f"the entry's segment is linked at {segment.virtual:#x} and loaded at {segment.physical:#x}, which "
                    f"direct entry does not map: link it there, or at {HIGHER_HALF_BASE:#x} + physical, "
                    "or give the kernel a Multiboot header or PVH note"
                )
            return
    if not any(part.physical <= elf.entry < part.physical + part.memory_size for part in elf.segments):
        raise BootError(f"the ELF entry {elf.entry:#x} is in no PT_LOAD segment: check ENTRY in the linker script")


def _mapped_to(linear: int) -> int | None:
    if linear < IDENTITY_END:
        return linear
    if HIGHER_HALF_BASE <= linear < HIGHER_HALF_BASE + HIGHER_HALF_SIZE:
        return linear - HIGHER_HALF_BASE
    return None
