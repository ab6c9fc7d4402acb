"""`hvm_start_info`: what a PVH kernel is told about its machine.

Source: Xen, xen/include/public/arch-x86/hvm/start_info.h (version 1 of the structure, with the memory map).
"""

from __future__ import annotations

import struct

from dbgvmm.boot.layout import Placement
from dbgvmm.boot.request import BootRequest

START_MAGIC = 0x336E_C578
VERSION = 1
START_INFO = struct.Struct("<IIIIQQQQII")
"""magic, version, flags, nr_modules, modlist, cmdline, rsdp, memmap, memmap_entries, reserved."""
MODULE = struct.Struct("<QQQQ")
"""paddr, size, cmdline, reserved."""
MEMMAP = struct.Struct("<QQII")
"""addr, size, type (as E820 has them), reserved."""


def write_start_info(room: Placement, request: BootRequest) -> int:
    """Writes the structure and all it points to; gives its physical address.

    The tables go into low memory, the initrd into the pages behind the kernel.
    """
    memory = room.memory
    lines = b"".join(MEMMAP.pack(line.start, line.size, line.type, 0) for line in room.ranges)
    memmap = room.low(len(lines), "PVH memory map", align=8)
    memory.write(memmap, lines)
    cmdline = room.low(len(request.cmdline) + 1, "kernel command line")
    memory.write(cmdline, request.cmdline + b"\0")
    modules, module_count = 0, 0
    if request.initrd is not None:
        start = room.above(room.end, len(request.initrd.data), "initrd")
        memory.write(start, request.initrd.data)
        modules, module_count = room.low(MODULE.size, "PVH module list", align=8), 1
        memory.write(modules, MODULE.pack(start, len(request.initrd.data), 0, 0))
    info = room.low(START_INFO.size, "PVH start info", align=8)
    no_rsdp = 0
    memory.write(
        info,
        START_INFO.pack(
            START_MAGIC, VERSION, 0, module_count, modules, cmdline, no_rsdp, memmap, len(room.ranges), 0
        ),
    )
    return info
