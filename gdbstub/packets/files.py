"""Files of the target, to be read: `vFile:...` (GDB manual, "Host I/O Packets"), `qXfer:exec-file`."""

from __future__ import annotations

from enum import IntEnum

from gdbstub.errors import TargetError
from gdbstub.fields import parse_hex, parse_number, split
from gdbstub.packets.xfer import chunk
from gdbstub.session import PACKET_SIZE, Reply, Session
from gdbstub.table import Row
from gdbstub.target import ExecFile, Files

_WRITING = 0x3
_REGULAR_READABLE = 0o100444
_BLOCK = 4096
_MAX_OPEN = 64


class Errno(IntEnum):
    """Error numbers of the protocol (GDB manual, "Errno Values")."""

    ENOENT = 2
    EBADF = 9
    EINVAL = 22
    EMFILE = 24
    EROFS = 30


def _failed(error: Errno) -> bytes:
    return b"F-1,%x" % error


def set_filesystem(_session: Session, _target: Files, arguments: bytes) -> Reply:
    """`vFile:setfs:pid`: there is one file system, whatever the process."""
    parse_number(arguments)
    return b"F0"


def open_file(session: Session, target: Files, arguments: bytes) -> Reply:
    """`vFile:open:name,flags,mode`: a number for the file as it is now. Only for reading."""
    name, rest = split(arguments, b",")
    flags, mode = split(rest, b",")
    parse_number(mode)
    if parse_number(flags) & _WRITING:
        return _failed(Errno.EROFS)
    data = target.read_file(_name(name))
    if data is None:
        return _failed(Errno.ENOENT)
    free = next((number for number in range(3, 3 + _MAX_OPEN) if number not in session.open_files), None)
    if free is None:
        return _failed(Errno.EMFILE)
    session.open_files[free] = data
    return b"F%x" % free


def read_at(session: Session, _target: Files, arguments: bytes) -> Reply:
    """`vFile:pread:number,count,offset`"""
    number, rest = split(arguments, b",")
    count, offset = split(rest, b",")
    data = session.open_files.get(parse_number(number))
    if data is None:
        return _failed(Errno.EBADF)
    start = parse_number(offset)
    part = data[start : start + min(parse_number(count), PACKET_SIZE - 32)]
    return b"F%x;" % len(part) + part


def close_file(session: Session, _target: Files, arguments: bytes) -> Reply:
    """`vFile:close:number`"""
    return b"F0" if session.open_files.pop(parse_number(arguments), None) is not None else _failed(Errno.EBADF)


def status_of_open(session: Session, _target: Files, arguments: bytes) -> Reply:
    """`vFile:fstat:number`"""
    data = session.open_files.get(parse_number(arguments))
    return _failed(Errno.EBADF) if data is None else _status(data)


def status_of_name(_session: Session, target: Files, arguments: bytes) -> Reply:
    """`vFile:stat:name`, `vFile:lstat:name` (gdb 16)"""
    data = target.read_file(_name(arguments))
    return _failed(Errno.ENOENT) if data is None else _status(data)


def read_link(_session: Session, target: Files, arguments: bytes) -> Reply:
    """`vFile:readlink:name`: there are no links."""
    return _failed(Errno.ENOENT if target.read_file(_name(arguments)) is None else Errno.EINVAL)


def refuse(_session: Session, _target: Files, _arguments: bytes) -> Reply:
    """`vFile:pwrite`, `vFile:unlink`: nothing can be changed."""
    return _failed(Errno.EROFS)


def exec_file(session: Session, target: ExecFile, arguments: bytes) -> Reply:
    """`exec-file`: the name of what runs, so that a debugger can read its symbols with `vFile`."""

    def document(annex: str) -> str:
        if annex:
            session.check_process(parse_number(annex.encode()))
        name = target.exec_file()
        if not name:
            raise TargetError("the program's file is not known")
        return name

    return chunk(session, "exec-file", arguments, document)


def _name(digits: bytes) -> str:
    return parse_hex(digits).decode("utf-8", "surrogateescape")


def _status(data: bytes) -> bytes:
    """struct stat of the protocol ("struct stat"): big-endian, no times: the target's files have none."""
    narrow = (0, 0, _REGULAR_READABLE, 1, 0, 0, 0)
    wide = (len(data), _BLOCK, (len(data) + 511) // 512)
    packed = b"".join(value.to_bytes(4, "big") for value in narrow)
    packed += b"".join(value.to_bytes(8, "big") for value in wide) + bytes(12)
    return b"F%x;" % len(packed) + packed


ROWS = (
    Row("vFile:setfs", set_filesystem, Files, text_errors=False),
    Row("vFile:open", open_file, Files, text_errors=False),
    Row("vFile:pread", read_at, Files, text_errors=False),
    Row("vFile:close", close_file, Files, text_errors=False),
    Row("vFile:fstat", status_of_open, Files, text_errors=False),
    Row("vFile:stat", status_of_name, Files, text_errors=False),
    Row("vFile:lstat", status_of_name, Files, text_errors=False),
    Row("vFile:readlink", read_link, Files, text_errors=False),
    Row("vFile:pwrite", refuse, Files, text_errors=False),
    Row("vFile:unlink", refuse, Files, text_errors=False),
    Row("qXfer:exec-file:read", exec_file, ExecFile, feature="qXfer:exec-file:read+"),
)
