"""Breakpoints and watchpoints: `Z0` to `Z4` set, `z0` to `z4` remove; the arguments are `addr,kind`."""

from __future__ import annotations

from gdbstub.errors import MalformedPacket
from gdbstub.fields import parse_pair
from gdbstub.session import OK, Reply, Session
from gdbstub.stop import Access
from gdbstub.table import Handler, Row
from gdbstub.target import HardwareBreakpoints, SoftwareBreakpoints, Watchpoints


def insert_software(_session: Session, target: SoftwareBreakpoints, arguments: bytes) -> Reply:
    """`Z0`"""
    target.insert_breakpoint(*parse_pair(arguments))
    return OK


def remove_software(_session: Session, target: SoftwareBreakpoints, arguments: bytes) -> Reply:
    """`z0`"""
    target.remove_breakpoint(*parse_pair(arguments))
    return OK


def insert_hardware(_session: Session, target: HardwareBreakpoints, arguments: bytes) -> Reply:
    """`Z1`"""
    target.insert_hardware_breakpoint(*parse_pair(arguments))
    return OK


def remove_hardware(_session: Session, target: HardwareBreakpoints, arguments: bytes) -> Reply:
    """`z1`"""
    target.remove_hardware_breakpoint(*parse_pair(arguments))
    return OK


def insert_watch(access: Access) -> Handler:
    """`Z2` writes, `Z3` reads, `Z4` both."""

    def insert(_session: Session, target: Watchpoints, arguments: bytes) -> Reply:
        target.insert_watchpoint(*_watched(arguments), access)
        return OK

    return insert


def remove_watch(access: Access) -> Handler:
    """`z2` writes, `z3` reads, `z4` both."""

    def remove(_session: Session, target: Watchpoints, arguments: bytes) -> Reply:
        target.remove_watchpoint(*_watched(arguments), access)
        return OK

    return remove


def _watched(arguments: bytes) -> tuple[int, int]:
    address, length = parse_pair(arguments)
    if not length:
        raise MalformedPacket("a watchpoint must cover at least one byte")
    return address, length


ROWS = (
    Row("Z0", insert_software, SoftwareBreakpoints, feature="swbreak+"),
    Row("z0", remove_software, SoftwareBreakpoints),
    Row("Z1", insert_hardware, HardwareBreakpoints, feature="hwbreak+"),
    Row("z1", remove_hardware, HardwareBreakpoints),
    Row("Z2", insert_watch(Access.WRITE), Watchpoints),
    Row("z2", remove_watch(Access.WRITE), Watchpoints),
    Row("Z3", insert_watch(Access.READ), Watchpoints),
    Row("z3", remove_watch(Access.READ), Watchpoints),
    Row("Z4", insert_watch(Access.ANY), Watchpoints),
    Row("z4", remove_watch(Access.ANY), Watchpoints),
)
