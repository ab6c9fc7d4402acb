"""Registers: `g`, `G`, `p`, `P`. An unavailable register is sent as `x` digits."""

from __future__ import annotations

from gdbstub.errors import MalformedPacket, TargetError
from gdbstub.fields import encode_hex, parse_hex, parse_number, split
from gdbstub.session import OK, Reply, Session
from gdbstub.table import Row
from gdbstub.target import ReadRegisters, WriteRegisters
from gdbstub.threadid import ThreadId


def read_all(session: Session, target: ReadRegisters, _: bytes) -> Reply:
    """`g`: all registers, or the first ones: gdb reads with `p` what is behind the end of the reply."""
    session.block_is_known = True
    if session.frame is not None:
        return b"".join(session.frame.register_digits(number) for number in range(session.frame.layout.block))
    thread = session.standing_thread()
    if session.with_block is not None:
        return encode_hex(session.with_block.read_block(thread))
    return b"".join(_encode(target, thread, number) for number in range(len(target.register_sizes)))


def write_all(session: Session, target: WriteRegisters, arguments: bytes) -> Reply:
    """`G XX...`: all registers, in the form that `g` gives. Those that are unavailable stay as they are."""
    session.refuse_in_frame()
    thread = session.standing_thread()
    sizes = target.register_sizes
    if session.with_block is not None:
        sizes = sizes[: session.with_block.block_registers]
    if len(arguments) != 2 * sum(sizes):
        raise MalformedPacket(f"all registers are {2 * sum(sizes)} digits, not {len(arguments)}")
    values: list[tuple[int, bytes]] = []
    position = 0
    for number, size in enumerate(sizes):
        digits = arguments[position : position + 2 * size]
        position += 2 * size
        if digits.strip(b"x") and target.read_register(thread, number) is not None:
            values.append((number, parse_hex(digits)))
    for number, value in values:
        target.write_register(thread, number, value)
    return OK


def read_one(session: Session, target: ReadRegisters, arguments: bytes) -> Reply:
    """`p n`: one register."""
    number = _number(target, arguments)
    if session.frame is not None:
        return session.frame.register_digits(number)
    return _encode(target, session.standing_thread(), number)


def write_one(session: Session, target: WriteRegisters, arguments: bytes) -> Reply:
    """`P n=XX...`: one register."""
    session.refuse_in_frame()
    name, digits = split(arguments, b"=")
    number, value = _number(target, name), parse_hex(digits)
    if len(value) != target.register_sizes[number]:
        raise MalformedPacket(f"register {number} has {target.register_sizes[number]} bytes, not {len(value)}")
    target.write_register(session.standing_thread(), number, value)
    return OK


def _number(target: ReadRegisters, text: bytes) -> int:
    number = parse_number(text)
    if number >= len(target.register_sizes) or not target.register_sizes[number]:
        raise TargetError(f"there is no register {number}")
    return number


def _encode(target: ReadRegisters, thread: ThreadId, number: int) -> bytes:
    size = target.register_sizes[number]
    if not size:
        return b""
    value = target.read_register(thread, number)
    if value is None:
        return b"xx" * size
    if len(value) != size:
        raise TargetError(f"the target gave {len(value)} bytes for register {number}, which has {size}")
    return encode_hex(value)


ROWS = (
    Row("g", read_all, ReadRegisters),
    Row("G", write_all, WriteRegisters),
    Row("p", read_one, ReadRegisters),
    Row("P", write_one, WriteRegisters),
)
