"""The guest's memory as an unwinder reads it: eight bytes at a time, from the same few pages, often.

Nothing that the guest could see is touched: no A bits, no TLB of its own. Translations are kept as in a TLB, until the guest
flushes its own or CR3 changes.
"""

from __future__ import annotations

from dbgvmm.cpu.bits import MASK64
from dbgvmm.hardware.layout import PAGE_OFFSET_MASK, PAGE_SIZE
from dbgvmm.hardware.paging import PTE
from dbgvmm.mmu.linear import GuestMemory, NotMapped

PAGE_SHIFT = 12
_KERNEL_HALF = 1 << 63


class Unreadable(LookupError):
    """Memory that an unwinder needs is not mapped to RAM. address: linear."""

    def __init__(self, address: int) -> None:
        super().__init__(f"{address:#x} is not mapped")
        self.address = address


class StackMemory:
    """Reads guest memory at linear addresses of the current address space.

    words: RAM as quadwords. pages: for each linear page number (address >> 12) that was met, the index of its first
    quadword in `words`.
    """

    def __init__(self, memory: GuestMemory, words: memoryview) -> None:
        self._memory = memory
        self.words = words
        self.pages: dict[int, int] = {}

    def forget(self) -> None:
        """The address space is another one, or has changed."""
        self.pages.clear()

    def page(self, number: int) -> int:
        """The index in `words` of the first quadword of linear page `number`. Raises Unreadable."""
        found = self.pages.get(number)
        if found is None:
            found = self.pages[number] = self._translate(number << PAGE_SHIFT)
        return found

    def _translate(self, address: int) -> int:
        try:
            report = self._memory.translate(address)
        except NotMapped as error:
            raise Unreadable(address) from error
        if report.gpa is None or (report.gpa + PAGE_SIZE) >> 3 > len(self.words):
            raise Unreadable(address)
        return report.gpa >> 3

    def word(self, address: int) -> int:
        """The eight bytes at a linear address. Raises Unreadable."""
        address &= MASK64
        try:
            if not address & 7:
                return int(self.words[self.page(address >> PAGE_SHIFT) + ((address & PAGE_OFFSET_MASK) >> 3)])
            return int.from_bytes(self._memory.peek(address, 8), "little")
        except (Unreadable, NotMapped) as error:
            raise Unreadable(address) from error

    def code(self, address: int, length: int) -> bytes:
        """As many of `length` bytes as there are; none where nothing is mapped."""
        try:
            return self._memory.peek_some(address & MASK64, length)
        except NotMapped:
            return b""

    def executable(self, address: int) -> bool:
        """Whether code may run at a linear address.

        In the lower half, the top-level entry's NX is passed over: under page table isolation the kernel forbids itself all
        user code in this way, and the user's code runs on tables that are otherwise the same.
        """
        try:
            report = self._memory.translate(address)
        except NotMapped:
            return False
        if report.executable or report.gpa is None or address >= _KERNEL_HALF or not report.levels:
            return report.executable
        return not any(level.entry & PTE.NX for level in report.levels[1:])
