"""The names of Linux' system calls: what its own table points to, named by its own symbols."""

from __future__ import annotations

import struct
from typing import Final

from dbgvmm.guest_os.interface import GuestOsError
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.reading import AddressSpace, NotReadable

_PREFIXES: Final = ("__x64_sys_", "__do_sys_", "sys_")
_NOT_THERE: Final = "ni_syscall"
_MOST: Final = 4096


def syscall_names(names: NameTable, space: AddressSpace) -> dict[int, str]:
    """By number; those that are not implemented are left out. Raises GuestOsError."""
    table = names.find("sys_call_table")
    if table is None:
        raise GuestOsError("Linux' symbols have no sys_call_table: it was built without CONFIG_KALLSYMS_ALL")
    count = min((table.end - table.address) // 8, _MOST)
    try:
        pointers = struct.unpack(f"<{count}Q", space.read(table.address, 8 * count))
    except NotReadable as error:
        raise GuestOsError(f"the table of system calls is damaged: {error}") from error
    found = {}
    for number, pointer in enumerate(pointers):
        symbol = names.at(pointer)
        if symbol is None or symbol[1]:
            if pointer:
                raise GuestOsError(f"the table of system calls is damaged: number {number} leads to {pointer:#x}")
            continue
        name = next((symbol[0].name.removeprefix(start) for start in _PREFIXES if symbol[0].name.startswith(start)), "")
        if name and name != _NOT_THERE:
            found[number] = name
    return found
