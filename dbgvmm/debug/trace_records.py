"""From records of the trace area to trace frames. How they get there is told in trace_compiler.py.

Source: Intel SDM vol. 1, 10.5.1 "FXSAVE Area", 8.1.7 "x87 FPU Tag Word".
"""

from __future__ import annotations

import struct
from typing import Final

from dbgvmm.debug.trace_compiler import FXSAVE, RecordLayout
from dbgvmm.hardware.layout import DATA_VA, MASK64
from gdbstub.tracing import TraceFrame, Tracepoint

TIMESTAMP: Final = 1
"""The number of `$trace_timestamp`, which is in every frame. (gdbserver has it too, in microseconds.)"""
_WORD: Final = struct.Struct("<Q")
_ST_AT, _XMM_AT, _SLOT = 32, 160, 16
_FIXED_PLACES: Final = {"fctrl": (0, 2), "fstat": (2, 2), "mxcsr": (24, 4)}
_VALID, _ZERO, _SPECIAL, _EMPTY = range(4)
_TOP_SHIFT: Final = 11
_LARGEST_EXPONENT: Final = 0x7FFF
_INTEGER_BIT: Final = 1 << 63


def record_number(data: memoryview, at: int) -> int:
    """The number that the record at `at` begins with."""
    return int(_WORD.unpack_from(data, at)[0])


def read_record(data: memoryview, at: int, tracepoint: Tracepoint, layout: RecordLayout) -> TraceFrame:
    """The frame that a record is."""
    count, page, flags = struct.unpack_from("<qQQ", data, at + 8)
    address = tracepoint.address
    values = {name: bytes(data[at + offset : at + offset + 8]) for offset, name in layout.words.items()}
    values["rip"], values["eflags"] = _WORD.pack(address), _WORD.pack(_flags(flags, page == DATA_VA))
    if layout.fxsave:
        values.update(_fxsave(bytes(data[at + layout.fxsave : at + layout.fxsave + FXSAVE])))
    registers = b"".join(values[name].ljust(size, b"\0")[:size] for name, size in layout.registers)
    blocks: dict[tuple[int, bytes], None] = {}
    for offset, length in layout.blocks:
        start = at + offset
        blocks[record_number(data, start), bytes(data[start + 8 : start + 8 + length])] = None
    return TraceFrame(
        tracepoint.number, address, count, layout.mask, registers, tuple(blocks), ((TIMESTAMP, count & MASK64),)
    )


def _flags(word: int, kernel: bool) -> int:
    """RFLAGS as the guest's PUSHF shows them: in the kernel IOPL is the monitor's; the word's top byte says what to add."""
    flags = word & 0x00FF_FFFF
    if kernel:
        flags = flags & ~0xFF00 | ((flags >> 8) + (word >> 56) & 0xFF) << 8
    return flags


def _fxsave(image: bytes) -> dict[str, bytes]:
    values = {name: image[start : start + size] for name, (start, size) in _FIXED_PLACES.items()}
    for number in range(8):
        start = _ST_AT + _SLOT * number
        values[f"st{number}"] = image[start : start + 10]
    for number in range(16):
        start = _XMM_AT + _SLOT * number
        values[f"xmm{number}"] = image[start : start + 16]
    values["ftag"] = _tag_word(image).to_bytes(2, "little")
    return values


def _tag_word(image: bytes) -> int:
    """Two bits for each physical register, of which the image says only which are empty."""
    top = int.from_bytes(image[2:4], "little") >> _TOP_SHIFT & 7
    tags = 0
    for physical in range(8):
        start = _ST_AT + _SLOT * (physical - top & 7)
        tag = _EMPTY
        if image[4] >> physical & 1:
            significand = int.from_bytes(image[start : start + 8], "little")
            exponent = int.from_bytes(image[start + 8 : start + 10], "little") & _LARGEST_EXPONENT
            if not exponent and not significand:
                tag = _ZERO
            elif exponent in (0, _LARGEST_EXPONENT) or not significand & _INTEGER_BIT:
                tag = _SPECIAL
            else:
                tag = _VALID
        tags |= tag << 2 * physical
    return tags


__all__ = ["TIMESTAMP", "read_record", "record_number"]
