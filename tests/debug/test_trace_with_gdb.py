"""gdb's tracepoint commands, in the real gdb on real guests."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tracing_gdb import TO_THE_END, TracingGdb

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

CHECKS = 8
"""So often cpubound calls check_eq; kmain's line 18 does it."""


@pytest.fixture
def gdb(guest: Callable[[str], Path], tmp_path: Path) -> TracingGdb:
    return TracingGdb(guest, tmp_path)


def test_registers_locals_and_memory_are_collected_and_dumped(gdb: TracingGdb) -> None:
    text = gdb(f"""
{TO_THE_END}
trace main.c:18
actions
collect $regs, $locals, checks
collect/s *(char(*)[80])mix_parts[2].name
collect mix_parts[3]
end
tstart
continue
tstatus
tstop
tfind start
tdump
tfind
print got
print checks
print mix_parts[3].name
print mix_parts[2].name[3]
print failures
info registers rdi r12 cr3 lstar
tfind none
print checks
""")
    assert f"Collected {CHECKS} trace frames." in text
    assert "Data collected at tracepoint 2, trace frame 0:" in text
    assert "got = 3051824352\n" in text, "the CRC that the guest prints first"
    assert '*(char(*)[80])mix_parts[2].name = "shell sort' in text
    assert "$1 = 2207519642\n$2 = 1\n" in text
    assert re.search(r"\$3 = 0x\w+ \"fib\"", text), "a string constant is read-only memory, which is read from the target"
    assert "$5 = <unavailable>" in text
    assert re.search(r"r12 +0x8394139a", text)
    assert re.search(r"cr3 +0x102000", text)
    assert f"$6 = {CHECKS}" in text


def test_registers_that_were_not_collected_are_unavailable(gdb: TracingGdb) -> None:
    text = gdb(f"""
{TO_THE_END}
trace fib
actions
collect $rdi
end
passcount 3
tstart
continue
tstatus
tfind start
print $rdi
print $rax
print $rip
print $xmm0
info registers rbx
x/xb &checks
""")
    assert "$1 = 20\n" in text
    assert "$2 = <unavailable>" in text
    assert "$3 = (void (*)()) 0x1060e0 <fib>" in text
    assert "$4 = <unavailable>" in text
    assert re.search(r"rbx +<unavailable>", text)
    assert re.search(r"<checks>:\t<unavailable>", text)


def test_arguments_conditions_and_pass_counts(gdb: TracingGdb) -> None:
    text = gdb(f"""
{TO_THE_END}
trace fib if n == 3 && $rsp != 0
actions
collect $args
end
passcount 4
tstart
continue
tstatus
tfind start
print n
tfind
print n
tfind 3
tfind 4
info tracepoints
""")
    assert "Trace stopped by tracepoint 2." in text
    assert "Collected 4 trace frames." in text
    assert "$1 = 3\n" in text and "$2 = 3\n" in text
    assert "Found trace frame 3, tracepoint 2" in text
    assert "Found trace frame 4" not in text
    assert "tracepoint already hit 4 times" in text


def test_steps_behind_a_hit_are_collected_one_by_one(gdb: TracingGdb) -> None:
    text = gdb(f"""
{TO_THE_END}
trace fib
actions
collect n
while-stepping 4
collect $rip, $rsp
end
end
passcount 1
tstart
continue
tstatus
tfind start
tdump
tfind
tdump
tfind
tfind
tfind
print $rip
x/5i fib
""")
    assert "Collected 5 trace frames." in text
    assert "n = 20\n" in text
    assert "$rip = (void (*)()) 0x1060e1 <fib+1>" in text
    fifth = text.partition("$1 = ")[2].partition("\n")[0]
    instructions = re.findall(r"(0x\w+) <fib(?:\+\d+)?>:", text)
    assert f"(void (*)()) {instructions[4]} <fib" in fifth


def test_trace_state_variables_count_and_are_collected(gdb: TracingGdb) -> None:
    text = gdb(f"""
{TO_THE_END}
tvariable $calls = 100
tvariable $big = -5
trace print
actions
teval $calls = $calls + 1
collect $calls
end
trace main.c:18 if $calls > 100
actions
collect $big
end
tstart
continue
print $calls
tstop
tfind tracepoint 2
print $calls
tfind
print $calls
tfind tracepoint 3
print $big
print $calls
print $trace_timestamp > 1000000
tfind none
info tvariables
""")
    values = dict(re.findall(r"^\$(\d) = (.*)$", text, re.MULTILINE))
    assert [values[number] for number in "23456"] == ["101", "102", "-5", "void", "1"]
    calls = int(values["1"])
    assert 110 < calls < 200
    assert re.search(rf"\$calls +100 +{calls}", text)


def test_a_breakpoints_condition_sees_them(gdb: TracingGdb) -> None:
    text = gdb("""
set breakpoint condition-evaluation target
tvariable $calls
trace fib
actions
teval $calls = $calls + 1
end
tstart
break fib if $calls == 5
continue
print $calls
print n
""")
    assert "Breakpoint 2, fib (n=" in text
    assert "$1 = 5\n" in text


def test_frames_are_found_by_place(gdb: TracingGdb) -> None:
    text = gdb(f"""
{TO_THE_END}
trace main.c:18
trace run_sort
tstart
continue
tstop
echo <pc>
tfind pc run_sort
echo <tracepoint>
tfind tracepoint 2
echo <range>
tfind start
tfind range run_sort, run_sort+1
echo <outside>
tfind outside run_sort, run_sort+1
echo <line>
tfind none
tfind line main.c:18
tfind end
""")

    def found(mark: str) -> str:
        return text.partition(f"<{mark}>")[2].partition("<")[0]

    assert "tracepoint 3" in found("pc")
    assert "tracepoint 2" in found("tracepoint")
    assert "tracepoint 3" in found("range")
    assert "tracepoint 2" in found("outside")
    assert "tracepoint 2" in found("line")


def test_fast_tracepoints_fit_on_any_instruction(gdb: TracingGdb) -> None:
    text = gdb(f"""
{TO_THE_END}
ftrace *fib
actions
collect n
end
passcount 2
info tracepoints
tstart
continue
tstatus
tfind 1
print n
""")
    assert "fast tracepoint" in text
    assert "Trace stopped by tracepoint 2." in text
    assert "$1 = 19\n" in text


@pytest.mark.parametrize("circular", ["on", "off"])
def test_a_full_buffer_ends_the_run_or_drops_the_oldest(gdb: TracingGdb, circular: str) -> None:
    text = gdb(f"""
{TO_THE_END}
trace main.c:18
actions
collect got
end
set trace-buffer-size 150
set circular-trace-buffer {circular}
tstart
continue
tstatus
{"tstop" if circular == "on" else ""}
tfind start
print got
""")
    first = int(text.partition("$1 = ")[2].partition("\n")[0])
    if circular == "on":
        match = re.search(r"Buffer contains (\d+) trace frames \(of (\d+) created total\)", text)
        assert match is not None
        assert int(match[1]) < int(match[2]) == CHECKS
        assert "Trace buffer is circular." in text
        assert first != 3051824352
    else:
        assert "Trace stopped because the buffer was full." in text
        assert first == 3051824352


def test_tracepoints_are_switched_and_added_in_a_run(gdb: TracingGdb) -> None:
    text = gdb("""
trace main.c:18
tstart
break main.c:18
continue
continue
disable 1
continue
continue
enable 1
trace check_eq if $rsp != 0
continue
continue
tstatus
tstop
info tracepoints
""")
    assert "tracepoint already hit 4 times" in text
    added = text.rpartition("Num ")[2].partition("check_eq")[2]
    assert "hit 2 times" in text.rpartition("Num ")[2], added


def test_an_expression_that_fails_ends_the_run_and_says_why(gdb: TracingGdb) -> None:
    text = gdb(f"""
{TO_THE_END}
trace fib if *(char*)0x7f0000000000 == 1
tstart
continue
tstatus
""")
    assert "Trace stopped by an error (condition: 0x7f0000000000 is not mapped" in text
    assert "tracepoint 2" in text


def test_what_is_noted_is_told(gdb: TracingGdb) -> None:
    text = gdb("""
trace fib
set trace-user jane
set trace-notes looking at calls
set trace-stop-notes enough
tstart
tstop
tstatus
""")
    assert "Trace stopped by a tstop command (enough)." in text
    assert "Trace user is jane." in text
    assert "Trace notes: looking at calls." in text


def test_no_tracepoint_packet_of_gdbs_is_unsupported(gdb: TracingGdb) -> None:
    text = gdb(f"""
set debug remote 1
tvariable $calls = 1
trace run_fib if $rsp != 0
actions
collect $regs
while-stepping 1
collect $rip
end
end
ftrace check_eq
info static-tracepoint-markers
tstart
break verdict
disable 1
enable 1
continue
tstop
tstatus
tfind start
print $calls
tfind pc run_fib
tdump
info tracepoints
tsave {gdb.directory / "trace"}
tfind none
""")
    pairs = re.findall(r"Sending packet: \$([qQ]T\w*)[^\n]*\n(?:\[remote\] )?.*?Packet received: ([^\n]*)", text, re.DOTALL)
    sent = {name for name, _ in pairs}
    assert {"QTinit", "QTDP", "QTDPsrc", "QTDV", "QTro", "QTStart", "QTStop", "QTFrame", "QTBuffer", "QTDisconnected",
            "QTEnable", "QTDisable", "qTStatus", "qTP", "qTV", "qTBuffer", "qTMinFTPILen", "qTfSTM"} <= sent  # fmt: skip
    assert [name for name, reply in pairs if not reply] == []
