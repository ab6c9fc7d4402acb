"""The kernel's log: the printk ring buffer (5.10 and later; kernel/printk/printk_ringbuffer.c).

A ring of descriptors says where in a ring of bytes each record's text is; the records' facts are in an array beside them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from dbgvmm.guest_os.interface import GuestOsError, Listing, LogLine
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.linux.records import Record, Records
from dbgvmm.guest_os.reading import NotReadable, printable

_STATE_SHIFT: Final = 62
_ID: Final = (1 << _STATE_SHIFT) - 1
_NO_TEXT: Final = 1
"""The low bit of a block's place, if the record has no text."""
_ID_BYTES: Final = 8
_LARGEST_BITS: Final = 30


class _State(IntEnum):
    """enum desc_state."""

    RESERVED = 0
    COMMITTED = 1
    FINALIZED = 2
    REUSABLE = 3


def read_log(records: Records, names: NameTable) -> Listing[LogLine]:
    """What is in the ring, the oldest first. Raises GuestOsError."""
    pointer = names.address("prb")
    if pointer is None or not records.types.has("printk_ringbuffer"):
        raise GuestOsError("this Linux keeps its log in a way that is not known here: it is older than 5.10")
    found: list[LogLine] = []
    try:
        ring = _Ring(records, records("printk_ringbuffer", records.space.u64(pointer)))
        for number in range(ring.tail, ring.tail + (ring.head - ring.tail & _ID) + 1):
            found += ring.lines(number & _ID)
    except NotReadable as error:
        return Listing(tuple(found), f"the kernel's log is damaged: {error}")
    return Listing(tuple(found))


class _Ring:
    def __init__(self, records: Records, ring: Record) -> None:
        self._records = records
        bits, text_bits = ring["desc_ring.count_bits"], ring["text_data_ring.size_bits"]
        if bits > _LARGEST_BITS or text_bits > _LARGEST_BITS:
            raise GuestOsError(f"the kernel's log is damaged: its sizes are 2^{bits} records and 2^{text_bits} bytes")
        self._count, self._size = 1 << bits, 1 << text_bits
        self._descriptors, self._infos = ring["desc_ring.descs"], ring["desc_ring.infos"]
        self._data = ring["text_data_ring.data"]
        self.tail, self.head = ring["desc_ring.tail_id.counter"], ring["desc_ring.head_id.counter"]
        if self.head - self.tail & _ID >= self._count:
            raise GuestOsError("the kernel's log is damaged: more records than there is room for")
        self._descriptor_size = records.types.size("prb_desc")
        self._info_size = records.types.size("printk_info")

    def lines(self, number: int) -> list[LogLine]:
        """Those of the record with an id; none while it is being written, or if it has been reused."""
        at = number % self._count
        descriptor = self._records("prb_desc", self._descriptors + at * self._descriptor_size)
        state = descriptor["state_var.counter"]
        if state & _ID != number or state >> _STATE_SHIFT not in (_State.COMMITTED, _State.FINALIZED):
            return []
        info = self._records("printk_info", self._infos + at * self._info_size)
        text = self._text(descriptor, number, info["text_len"])
        if text is None:
            return []
        sequence, time, level = info["seq"], info["ts_nsec"], info["level"]
        return [LogLine(printable(line), sequence, time, level) for line in text.split(b"\n")]

    def _text(self, descriptor: Record, number: int, length: int) -> bytes | None:
        begin, end = descriptor["text_blk_lpos.begin"], descriptor["text_blk_lpos.next"]
        if begin & _NO_TEXT and end & _NO_TEXT:
            return b""
        start, stop = begin % self._size, end % self._size
        if begin // self._size != end // self._size and stop:
            start = 0  # a block never wraps: this one did not fit at the end
        space = self._records.space
        if start + _ID_BYTES > self._size or space.u64(self._data + start) & _ID != number:
            return None
        room = (stop or self._size) - start - _ID_BYTES
        return space.read(self._data + start + _ID_BYTES, max(min(length, room), 0))
