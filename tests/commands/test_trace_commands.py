"""`info tracepoints`, `info trace-frames` and `info trace-frame`, with what gdb would have set."""

from __future__ import annotations

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.tracepoints import info_trace_frame, info_trace_frames, info_tracepoints
from dbgvmm.debug.gdb_target import GdbTarget
from gdbstub import Stub
from gdbstub.framing import frame


@pytest.fixture
def traced(hello: Session) -> Session:
    """`hello` at its end, with kmain traced by gdb's packets."""
    kmain = hello.symbols.find("kmain")
    assert kmain is not None
    stub = Stub(GdbTarget(hello.machine))
    at = f"{kmain.address:x}"
    for packet in (
        "QTDV:2:fffffffffffffff6:0:746f74616c", f"QTDP:1:{at}:E:3:5:X3,220127-", f"QTDP:-1:{at}:R1000081M7,0,14X4,2e000227-",
        f"QTDP:-1:{at}:SR10000", f"QTDPsrc:1:{at}:at:0:5:6b6d61696e", f"QTDPsrc:1:{at}:cond:0:6:3120213d2030",
        f"QTDPsrc:1:{at}:cmd:0:c:636f6c6c656374202472", f"QTDPsrc:1:{at}:cmd:a:c:6178", f"QTDP:2:{at}:D:0:0:F5", "QTStart",
    ):  # fmt: skip
        assert b"$OK#" in stub.feed(frame(packet.encode(), runs=False)), packet
    hello.machine.run()
    return hello


def test_without_tracepoints_it_is_said_how_to_get_some(hello: Session, table: CommandTable) -> None:
    assert "gdb's `trace`" in str(table.execute(hello, "info tracepoints"))
    assert str(table.execute(hello, "info trace-frames")) == "no trace frames"


def test_tracepoints_are_listed_with_what_was_typed_for_them(traced: Session) -> None:
    report = info_tracepoints(traced)
    first, second = report.lines
    assert (first.number, first.kind, first.enabled, first.hits, first.passes) == (1, "trace", True, 1, 5)
    assert first.typed == ("if 1 != 0", "collect $rax")
    assert (second.kind, second.enabled, second.hits) == ("ftrace", False, 0)
    text = str(report)
    assert "<kmain>" in text
    assert "1 of 5" in text
    assert text.splitlines()[-1].startswith("tracing; 4 frames, ")


def test_frames_are_listed(traced: Session) -> None:
    listing = info_trace_frames(traced)
    assert [(line.number, line.frame.tracepoint) for line in listing.lines] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    first = listing.lines[0].frame.count
    assert [line.frame.count - first for line in listing.lines] == [0, 1, 2, 3]
    assert listing.lines[0].contents == "3 registers, 20 bytes of memory"
    assert str(listing).splitlines()[2].split()[-3:] == ["<kmain+0x1>", "1", "register"]


def test_a_part_of_the_frames_says_how_to_see_the_rest(traced: Session, table: CommandTable) -> None:
    assert str(table.execute(traced, "info trace-frames 1 2")).endswith("1 more: `info trace-frames 3`")
    with pytest.raises(CommandError, match="from 0 to 3"):
        table.execute(traced, "info trace-frames 4")


def test_a_frame_is_shown_with_all_that_is_in_it(traced: Session, table: CommandTable) -> None:
    report = info_trace_frame(traced, 0)  # type: ignore[arg-type]
    assert list(report.registers) == ["rax", "rsp", "st0"]
    assert report.variables == {"total": -10, "trace_timestamp": report.line.frame.count}
    (block,) = report.memory
    assert (block.address, len(block.data)) == (report.registers["rsp"], 20)
    text = str(table.execute(traced, "info trace-frame 0"))
    words = [line.split() for line in text.splitlines()]
    assert ["$total", "-10"] in words
    assert ["rsp", f"{block.address:#x}"] in words
    with pytest.raises(CommandError, match="no trace frame 9"):
        table.execute(traced, "info trace-frame 9")


def test_why_a_run_has_ended_is_told(traced: Session) -> None:
    traced.machine.tracing.experiment.debugger_gone()
    assert str(info_tracepoints(traced)).splitlines()[-1].startswith("not tracing: the debugger has gone; ")
