"""`GdbSession` with the real gdb on real guests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from dbgvmm.gdb import CommandFailed, GdbSession, Reason, SessionError, TimedOut, VmFailed, Watched

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

MULTIBOOT_LOADED = 0x2BADB002
Guest = Callable[[str], Path]


@pytest.fixture
def hello(guest: Guest) -> Iterator[GdbSession]:
    with GdbSession.run(guest("hello")) as session:
        yield session


@pytest.fixture
def small(guest: Guest) -> Iterator[GdbSession]:
    """cpubound-small in front of its kmain."""
    with GdbSession.run(guest("cpubound-small")) as session:
        session.break_at("kmain", temporary=True)
        assert session.continue_().reason is Reason.BREAKPOINT
        yield session


# -- stopping and looking


def test_a_session_begins_in_front_of_the_first_instruction(hello: GdbSession) -> None:
    assert hello.last_stop is not None and hello.last_stop.frame is not None
    assert hello.last_stop.frame.function == "boot_entry32"
    assert hello.registers("cr0")["cr0"] & 1, "protected mode, as Multiboot says"
    assert not hello.running


def test_a_breakpoint_stops_where_its_condition_holds(hello: GdbSession) -> None:
    never = hello.break_at("kmain", condition="magic == 1")
    point = hello.break_at("kmain", condition=f"magic == {MULTIBOOT_LOADED:#x}")
    stop = hello.continue_()
    assert (stop.reason, stop.breakpoint, stop.pc) == (Reason.BREAKPOINT, point.number, point.address)
    assert never.number != point.number
    assert stop.frame is not None and stop.frame.arguments["magic"] == str(MULTIBOOT_LOADED)


def test_values_are_typed(hello: GdbSession) -> None:
    hello.break_at("print")
    stop = hello.continue_()
    registers = hello.registers("rip", "xmm0", "efer")
    assert registers["rip"] == stop.pc
    assert registers["efer"] & 0x400, "LMA"
    assert hello.integer("&kmain") == 0x106000
    assert hello.evaluate("format").endswith('"Hello from long mode.\\n"')
    assert hello.read_memory("format", 5) == b"Hello"
    assert len(hello.read_memory(0x106000, 100_000)) == 100_000
    assert set(registers) < set(hello.registers())


def test_state_can_be_changed(hello: GdbSession) -> None:
    hello.break_at("print")
    hello.continue_()
    hello.set("$rax", 0x1234)
    assert hello.register("rax") == 0x1234
    text = bytes(range(1, 256)) * 9
    hello.write_memory(0x800000, text)
    assert hello.read_memory(0x800000, len(text)) == text
    hello.write_memory("format", b"J")
    hello.delete()
    stop = hello.continue_()
    assert stop.signal and "halted with interrupts off" in stop.output
    assert hello.serial_output() == "Jello from long mode.\r\n"


def test_a_backtrace_has_functions_and_arguments(hello: GdbSession) -> None:
    hello.break_at("print")
    hello.continue_()
    inner, outer, *_ = hello.backtrace()
    assert (inner.level, inner.function, outer.level, outer.function) == (0, "print", 1, "kmain")
    assert "Hello" in inner.arguments["format"]
    assert outer.file.endswith("hello.c") and outer.line > 0
    assert [frame.function for frame in hello.backtrace(1)] == ["print"]
    assert hello.backtrace(0) == []


def test_stepping_goes_by_instruction_by_line_and_out(hello: GdbSession) -> None:
    start = hello.break_at("kmain").address
    hello.continue_()
    assert start is not None
    first = hello.step_instruction()
    assert first.reason is Reason.STEPPED and first.pc is not None and 0 < first.pc - start < 16
    assert (line := hello.next_().frame) is not None and line.function == "kmain"
    assert (inside := hello.step().frame) is not None and inside.function == "print"
    out = hello.finish()
    assert out.reason is Reason.FINISHED and out.frame is not None and out.frame.function == "kmain"
    assert (end := hello.advance("console_flush").frame) is not None and end.function == "console_flush"


def test_finish_gives_what_the_function_returned(small: GdbSession) -> None:
    small.break_at("run_crc_bitwise")
    small.continue_()
    assert small.finish().returned == str(0x8394139A)


def test_a_watchpoint_tells_old_and_new_value_and_who_writes(small: GdbSession) -> None:
    point = small.watch("checks")
    stop = small.continue_()
    assert (stop.reason, stop.breakpoint) == (Reason.WATCHPOINT, point.number)
    assert stop.watched == Watched("checks", "0", "1")
    assert small.backtrace()[0].function == "check_eq"
    assert small.breakpoints()[-1].hits == 1


def test_reads_are_watched(small: GdbSession) -> None:
    point = small.watch("crc_table[200]", "read")
    stop = small.continue_()
    assert (stop.reason, stop.breakpoint) == (Reason.READ_WATCHPOINT, point.number)
    assert stop.watched is not None and stop.watched.old is None


def test_dprintf_prints_without_a_stop(small: GdbSession) -> None:
    # At the instruction, where the arguments are still in their registers.
    small.dprintf("*check_eq", "check %s: %lx\n", "(char *) $rdi", "$rsi")
    stop = small.continue_()
    lines = [line for line in stop.output.splitlines() if line.startswith("check ")]
    assert stop.ended
    assert len(lines) == 8 and lines[0].startswith("check crc32 by table: ")


def test_dprintfs_of_a_guest_that_still_runs_can_be_read(guest: Guest) -> None:
    with GdbSession.run(guest("cpubound")) as session:
        session.dprintf("*check_eq", "check %s\n", "(char *) $rdi")
        session.continue_to_output("ok   crc32 by table")
        assert session.last_stop is not None and "check crc32 by table\n" in session.last_stop.output
        session.resume()
        seen = ""
        deadline = monotonic() + 30
        while "check crc32 bit by bit\n" not in seen and session.running and monotonic() < deadline:
            seen += session.take_output()
            sleep(0.02)
        assert "check crc32 bit by bit\n" in seen
        assert "check crc32 by table" not in seen


def test_the_guests_end_has_its_exit_code(small: GdbSession) -> None:
    assert small.exit_code is None
    stop = small.continue_()
    assert (stop.reason, stop.exit_code, small.exit_code, stop.pc) == (Reason.EXITED, 1, 1, None)
    assert small.vm_status(10) == 1
    assert "PASS 8 checks" in small.serial_output()
    with pytest.raises(CommandFailed, match="not being run"):
        small.continue_()


def test_a_running_guest_is_interrupted(guest: Guest) -> None:
    with GdbSession.run(guest("cpubound")) as session:
        session.resume()
        assert session.running
        with pytest.raises(TimedOut, match="has not stopped within 0.3 s: it still runs"):
            session.wait_for_stop(0.3)
        with pytest.raises(CommandFailed, match="running"):
            session.registers("rip")
        stop = session.interrupt()
        assert (stop.reason, stop.signal) == (Reason.SIGNAL, "SIGINT")
        assert not session.running
        assert session.register("rip") == stop.pc
        assert session.interrupt() == stop, "it stands still already"


# -- commands of gdb and of the monitor


def test_any_command_gives_what_gdb_prints(hello: GdbSession) -> None:
    assert hello.execute("print 6 * 7") == "$1 = 42\n"
    assert hello.execute('printf "a \\"quoted\\" %d\\n", 7') == 'a "quoted" 7\n'
    with pytest.raises(SessionError, match="one command at a time"):
        hello.execute("commands 1\nend")
    with pytest.raises(CommandFailed, match='No symbol "nothing"'):
        hello.execute("print nothing")


def test_a_command_that_resumes_ends_at_the_stop(hello: GdbSession) -> None:
    hello.execute("break kmain")
    assert "Breakpoint 1, kmain" in hello.execute("continue")
    assert hello.last_stop is not None and hello.last_stop.breakpoint == 1
    assert hello.execute("stepi") and hello.register("rip") > 0x106000


def test_a_command_in_the_background_is_not_waited_for(hello: GdbSession) -> None:
    hello.break_at("kmain")
    assert hello.execute("continue &") == "Continuing.\n"
    assert hello.wait_for_stop().reason is Reason.BREAKPOINT
    assert "breakpoint-modified" in [note.message for note in hello.take_notes()]
    assert hello.take_notes() == []


def test_killing_the_machine_is_its_end(hello: GdbSession) -> None:
    hello.execute("kill")
    assert hello.vm_status(10) == 130
    with pytest.raises(VmFailed, match="has ended with status 130.*killed by the debugger"):
        hello.continue_()


def test_monitor_commands_give_their_output_or_their_error(hello: GdbSession) -> None:
    hello.break_at("kmain")
    hello.continue_()
    assert "a page of 2 MiB" in hello.monitor("translate kmain")
    with pytest.raises(CommandFailed, match="there is no command 'frob'"):
        hello.monitor("frob")


def test_what_cannot_be_is_said_in_gdbs_words_and_the_session_goes_on(hello: GdbSession) -> None:
    with pytest.raises(CommandFailed, match='Function "nowhere" not defined'):
        hello.break_at("nowhere")
    with pytest.raises(CommandFailed, match='No symbol "nothing"'):
        hello.evaluate("nothing")
    with pytest.raises(SessionError, match="there is no register 'r99'"):
        hello.registers("r99")
    with pytest.raises(SessionError, match="register gdtr is no integer"):
        hello.registers("gdtr")
    with pytest.raises(SessionError, match="is no integer: its value is 1.5"):
        hello.integer("1.5")
    hello.break_at("kmain")
    hello.continue_()
    with pytest.raises(CommandFailed, match="Unable to read memory"):
        hello.read_memory(0x7F0000000000, 16)
    assert hello.integer("magic") == MULTIBOOT_LOADED


def test_breakpoints_are_listed_turned_off_and_deleted(hello: GdbSession) -> None:
    first = hello.break_at("kmain")
    second = hello.break_at(0x106000, hardware=True)
    assert [point.number for point in hello.breakpoints()] == [first.number, second.number]
    assert second.kind == "hw breakpoint"
    hello.enable(first, on=False)
    assert [point.enabled for point in hello.breakpoints()] == [False, True]
    hello.delete(second)
    assert hello.breakpoints() == [hello.breakpoints()[0]]
    hello.delete()
    assert hello.breakpoints() == []


def test_ignored_hits_do_not_stop(small: GdbSession) -> None:
    small.break_at("check_eq", ignore=7)
    small.continue_()
    assert "64-bit mul and div" in small.evaluate("name")
