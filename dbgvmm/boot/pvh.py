"""PVH: an ELF kernel that names a 32-bit entry point in a note. Linux, FreeBSD and others can be started so.

Source: Xen, docs/misc/pvh.pandoc (the CPU's state) and xen/include/public/elfnote.h (the note).
"""

from __future__ import annotations

from dbgvmm.boot.elf_image import ElfImage
from dbgvmm.boot.layout import Placement
from dbgvmm.boot.request import BootRequest
from dbgvmm.boot.segments import code32, data32, flat_registers, gdt_bytes, tss32
from dbgvmm.boot.start_info import write_start_info
from dbgvmm.boot.state import BootError, BootState, CpuMode, Memory
from dbgvmm.cpu.bits import CR0

NOTE_OWNER = "Xen"
XEN_ELFNOTE_PHYS32_ENTRY = 18
CODE_SELECTOR = 0x08
DATA_SELECTOR = 0x10
TSS_SELECTOR = 0x18


def pvh_entry(elf: ElfImage) -> int | None:
    """The physical entry address that the PVH note names, or None without such a note."""
    for note in elf.notes():
        if note.owner == NOTE_OWNER and note.type == XEN_ELFNOTE_PHYS32_ENTRY:
            if len(note.content) not in (4, 8):
                raise BootError(f"PVH note with {len(note.content)} bytes instead of 4 or 8: correct the kernel's note")
            return int.from_bytes(note.content, "little")
    return None


def load_pvh(request: BootRequest, memory: Memory, elf: ElfImage | None = None) -> BootState:
    """Loads an ELF kernel with a PVH note. Raises BootError when it has none or does not fit.

    The kernel starts in 32-bit mode without paging; EBX is the address of `hvm_start_info`.
    """
    elf = elf or ElfImage(request.image)
    entry = pvh_entry(elf)
    if entry is None:
        raise BootError("ELF file without a PVH note (XEN_ELFNOTE_PHYS32_ENTRY)")
    room = Placement(memory)
    elf.load(room)
    if not any(part.physical <= entry < part.physical + part.memory_size for part in elf.segments):
        raise BootError(f"the PVH note's entry {entry:#x} is in no segment: it has to be a physical address")

    code, data, task = code32(CODE_SELECTOR), data32(DATA_SELECTOR), tss32(TSS_SELECTOR)
    table = gdt_bytes([code, data, task])
    gdt = room.low(len(table), "GDT", align=8)
    memory.write(gdt, table)
    info = write_start_info(room, request)
    symbols = elf.has_symbols()
    return BootState(
        mode=CpuMode.PROTECTED_FLAT32,
        rip=entry,
        gpr={"rbx": info},
        cr0=CR0.PE | CR0.ET,
        cr3=0,
        cr4=0,
        efer=0,
        segments={**flat_registers(code, data), "tr": task},
        gdt_base=gdt,
        gdt_limit=len(table) - 1,
        entry_name=_name_of(elf, entry) or "pvh_start",
        symbols_file=request.path if symbols else None,
        protocol="pvh",
    )


def _name_of(elf: ElfImage, physical: int) -> str | None:
    """The symbol at a physical address: symbols have linear ones, which may be elsewhere."""
    for part in elf.segments:
        if part.physical <= physical < part.physical + part.memory_size:
            return elf.symbol_at(physical - part.physical + part.virtual) or elf.symbol_at(physical)
    return None
