"""Packets that lldb adds to the protocol ("LLDB GDB Remote Protocol Extensions" in lldb's documentation)."""

from __future__ import annotations

import json

from gdbstub.errors import RspError
from gdbstub.fields import encode_hex, parse_number
from gdbstub.session import OK, Reply, Session
from gdbstub.stop import BreakpointHit, Exited, Signal, Signalled, Stepped, StopReason, Terminated, WatchpointHit
from gdbstub.table import Row
from gdbstub.target import DescribeHost, DescribeMemory, ExpediteRegisters, NameRegisters, Target, Threads

_NO_MORE = 0x45


def thread_suffixes(session: Session, _target: Target, _: bytes) -> Reply:
    """`QThreadSuffixSupported`: from now on `;thread:id;` behind a packet names its thread."""
    session.thread_suffixes = True
    return OK


def list_threads(session: Session, _target: Threads, _: bytes) -> Reply:
    """`QListThreadsInStopReply`: stop replies name all threads from now on."""
    session.list_threads = True
    return OK


def enable_error_strings(_session: Session, _target: Target, _: bytes) -> Reply:
    """`QEnableErrorStrings`: errors may have text. Ours have it where gdb takes it."""
    return OK


def host_info(_session: Session, target: DescribeHost, _: bytes) -> Reply:
    """`qHostInfo`: what the code runs on."""
    return _host(target) + b"vendor:unknown;"


def process_info(_session: Session, target: DescribeHost, _: bytes) -> Reply:
    """`qProcessInfo`: the machine as if it were a process."""
    return b"pid:1;" + _host(target)


def _host(target: DescribeHost) -> bytes:
    host = target.host()
    return f"triple:{host.triple.encode().hex()};ptrsize:{host.pointer_bytes};endian:little;ostype:{host.system};".encode()


def memory_region(_session: Session, target: DescribeMemory, arguments: bytes) -> Reply:
    """`qMemoryRegionInfo:addr`: the range around an address, and what may be done there (nothing, if it is not mapped)."""
    region = target.memory_region(parse_number(arguments))
    reply = f"start:{region.start:x};size:{region.length:x};"
    if region.permissions:
        reply += f"permissions:{region.permissions};"
    return (reply + (f"name:{region.name.encode().hex()};" if region.name else "")).encode()


def register_info(_session: Session, target: NameRegisters, arguments: bytes) -> Reply:
    """`qRegisterInfo n`: one register's name and layout; an error behind the last one."""
    number = parse_number(arguments)
    sizes = target.register_sizes
    if number >= len(sizes):
        raise RspError("there are no more registers", _NO_MORE)
    name, group, generic = target.register_name(number)
    bits = 8 * sizes[number]
    encoding, form = ("vector", "vector-uint8") if bits > 64 else ("uint", "hex")
    reply = f"name:{name};bitsize:{bits};offset:{sum(sizes[:number])};encoding:{encoding};format:{form};set:{group};"
    return (reply + (f"generic:{generic};" if generic else "")).encode()


def threads_info(session: Session, target: Threads, _: bytes) -> Reply:
    """`jThreadsInfo`: all threads, why they stand still, and their expedited registers."""
    reason = session.target.stop_reason()
    found = []
    for thread in target.threads():
        entry: dict[str, object] = {"tid": thread.tid}
        if not isinstance(reason, Exited | Terminated) and reason.thread == thread:
            entry |= _cause(reason)
        if isinstance(target, ExpediteRegisters):
            values = ((number, target.read_register(thread, number)) for number in target.expedited_registers)
            entry["registers"] = {str(number): encode_hex(value).decode() for number, value in values if value is not None}
        found.append(entry)
    return json.dumps(found, separators=(",", ":")).encode()


def _cause(reason: StopReason) -> dict[str, object]:
    match reason:
        case BreakpointHit():
            return {"reason": "breakpoint", "signal": int(Signal.TRAP)}
        case WatchpointHit(address=address):
            return {"reason": "watchpoint", "description": str(address), "signal": int(Signal.TRAP)}
        case Stepped():
            return {"reason": "trace", "signal": int(Signal.TRAP)}
        case Signalled(signal=signal):
            return {"reason": "signal", "signal": int(signal)}
        case _:
            return {"reason": "signal", "signal": int(Signal.INT)}


ROWS = (
    Row("QThreadSuffixSupported", thread_suffixes, Target),
    Row("QListThreadsInStopReply", list_threads, Threads),
    Row("QEnableErrorStrings", enable_error_strings, Target),
    Row("qHostInfo", host_info, DescribeHost, text_errors=False),
    Row("qProcessInfo", process_info, DescribeHost, text_errors=False),
    Row("qMemoryRegionInfo", memory_region, DescribeMemory, text_errors=False),
    Row("qRegisterInfo", register_info, NameRegisters, glued=True, text_errors=False),
    Row("jThreadsInfo", threads_info, Threads, text_errors=False),
)
