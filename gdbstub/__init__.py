"""A stub for the GDB remote serial protocol, for any emulator written in Python.

    stub = Stub(target)             # one for each connection
    send(stub.feed(received))       # bytes from the debugger in, bytes for it out
    send(stub.report_stop(reason))  # when the target, having been resumed, has stopped

`target` is any object with a `stop_reason` method; whichever of the other protocols in `gdbstub.target` it implements
(`ReadMemory`, `Resume`, `Watchpoints`, ...) is what the debugger is offered. The stub itself does no input or output;
`gdbstub.transport.Listener` is a socket for it, and its module shows the whole loop.

Source for packets and formats: "Debugging with GDB", appendix "GDB Remote Serial Protocol".
"""

from __future__ import annotations

from gdbstub.core import Stub
from gdbstub.errors import MalformedPacket, MemoryFault, RspError, TargetError
from gdbstub.packets import ALL_ROWS
from gdbstub.session import PACKET_SIZE, Enter, Reply, Session, State
from gdbstub.stop import (
    Access,
    BreakpointHit,
    Exited,
    Interrupted,
    Signal,
    Signalled,
    Stepped,
    StopReason,
    Terminated,
    WatchpointHit,
)
from gdbstub.table import Handler, Row
from gdbstub.target import (
    Action,
    BreakpointPrograms,
    Continue,
    DescribeHost,
    DescribeMemory,
    DescribeTarget,
    DescribeThreads,
    Detach,
    ExecFile,
    ExpediteRegisters,
    Files,
    HardwareBreakpoints,
    Host,
    Kill,
    MapMemory,
    MemoryKind,
    MemoryRegion,
    Monitor,
    NameRegisters,
    PhysicalMemory,
    ProgrammedBreakpoints,
    ReadMemory,
    ReadRegisters,
    Region,
    RegisterBlock,
    Restart,
    Resume,
    SoftwareBreakpoints,
    Step,
    StepFlags,
    StepRange,
    StepRanges,
    Target,
    ThreadDetails,
    Threads,
    Tracepoints,
    Watchpoints,
    WriteMemory,
    WriteRegisters,
)
from gdbstub.threadid import ONLY_THREAD, ThreadId
from gdbstub.transport import Connected, Disconnected, Listener, Received, TransportError, TransportEvent

__all__ = [
    "ALL_ROWS",
    "ONLY_THREAD",
    "PACKET_SIZE",
    "Access",
    "Action",
    "BreakpointHit",
    "BreakpointPrograms",
    "Connected",
    "Continue",
    "DescribeHost",
    "DescribeMemory",
    "DescribeTarget",
    "DescribeThreads",
    "Detach",
    "Disconnected",
    "Enter",
    "ExecFile",
    "Exited",
    "ExpediteRegisters",
    "Files",
    "Handler",
    "HardwareBreakpoints",
    "Host",
    "Interrupted",
    "Kill",
    "Listener",
    "MalformedPacket",
    "MapMemory",
    "MemoryFault",
    "MemoryKind",
    "MemoryRegion",
    "Monitor",
    "NameRegisters",
    "ReadMemory",
    "ReadRegisters",
    "PhysicalMemory",
    "ProgrammedBreakpoints",
    "Received",
    "Region",
    "RegisterBlock",
    "Reply",
    "Restart",
    "Resume",
    "Row",
    "RspError",
    "Session",
    "Signal",
    "Signalled",
    "SoftwareBreakpoints",
    "State",
    "Step",
    "StepFlags",
    "StepRange",
    "StepRanges",
    "Stepped",
    "StopReason",
    "Stub",
    "Target",
    "TargetError",
    "Terminated",
    "ThreadDetails",
    "ThreadId",
    "Threads",
    "Tracepoints",
    "TransportError",
    "TransportEvent",
    "WatchpointHit",
    "Watchpoints",
    "WriteMemory",
    "WriteRegisters",
]
