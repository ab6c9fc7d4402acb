"""The ORC tables of a kernel and of its modules, as they are in memory."""

from __future__ import annotations

from collections.abc import Callable

from dbgvmm.guest_os.interface import GuestOsError
from dbgvmm.guest_os.linux.modules import Modules
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.linux.orc import ENTRY_BYTES, OrcFormat, OrcRule, OrcTable
from dbgvmm.guest_os.linux.records import BrokenList, Record, Records
from dbgvmm.guest_os.reading import NotReadable

_LARGEST = 64 << 20


class OrcTables:
    """Finds the entry for any address of kernel code. image: its bounds. now: changes when the guest has run.

    Raises GuestOsError if the kernel has no tables, or they are damaged.
    """

    def __init__(
        self, names: NameTable, records: Records, modules: Modules | None, image: tuple[int, int], now: Callable[[], int]
    ) -> None:
        self._records = records
        self._modules = modules
        self._image = image
        self._now = now
        self._format = OrcFormat(records.types)
        bounds = [
            names.address(name)
            for name in ("__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind", "__stop_orc_unwind")
        ]
        ip_start, ip_end, start, end = (0 if bound is None else bound for bound in bounds)
        if not ip_start or not start or ip_end <= ip_start or end <= start:
            raise GuestOsError("this Linux has no ORC tables: it was built without CONFIG_UNWINDER_ORC")
        self._kernel = self._table(ip_start, ip_end - ip_start, start, end - start)
        self._loaded: dict[int, tuple[list[tuple[int, int]], OrcTable | None]] = {}
        self._asked = -1

    def _table(self, places: int, places_size: int, entries: int, size: int) -> OrcTable:
        space = self._records.space
        try:
            return OrcTable(space.read(places, places_size), places, space.read(entries, size), self._format.decode)
        except NotReadable as error:
            raise GuestOsError(f"the ORC tables cannot be read: {error}") from error

    def find(self, pc: int) -> OrcRule | None:
        """The entry for the instruction that holds the byte at `pc`; None if no table covers it."""
        if self._image[0] <= pc < self._image[1]:
            return self._kernel.find(pc)
        if pc < 1 << 63 or self._modules is None:
            return None
        if self._asked != self._now():
            self._asked = self._now()
            self._look()
        for extents, table in self._loaded.values():
            if any(start <= pc < end for start, end in extents):
                return None if table is None else table.find(pc)
        return None

    def _look(self) -> None:
        """Which modules are there now. What is damaged has no entries."""
        assert self._modules is not None
        self._records.space.forget()
        known, self._loaded = self._loaded, {}
        try:
            for module in self._modules.records():
                extents = self._modules.extents(module)
                before = known.get(module.address)
                self._loaded[module.address] = (
                    before if before is not None and before[0] == extents else (extents, self._of_module(module))
                )
        except (BrokenList, NotReadable):
            return

    def _of_module(self, module: Record) -> OrcTable | None:
        count = module["arch.num_orcs"] if module.has("arch.num_orcs") else 0
        if not 0 < count * ENTRY_BYTES < _LARGEST:
            return None
        try:
            return self._table(module["arch.orc_unwind_ip"], 4 * count, module["arch.orc_unwind"], ENTRY_BYTES * count)
        except GuestOsError:
            return None
